"""Entering the private namespaces of a libvirtd: mounts, control groups, optionally another network.

They need no holder: a daemon that is started again enters new ones with the same binds and meets its guests.
"""

from __future__ import annotations

from pathlib import Path

from deployment import namespaces
from deployment.libvirtd import cgroups
from deployment.libvirtd.layout import Layout


def enter(layout: Layout, groups: dict[Path, Path], network_namespace: Path | None = None) -> None:
    """Moves this process, which must have one thread and be root's, into the namespaces of `layout`.

    `groups` is what `cgroups.create` gave: each becomes the root of its hierarchy. Raises `OSError`.
    """
    cgroups.join(list(groups.values()))
    if network_namespace is not None:
        namespaces.enter_network(network_namespace)
    namespaces.unshare(namespaces.NEW_MOUNT, "mount namespace")
    namespaces.keep_mounts_here()
    namespaces.mount_cgroups(groups, new_sysfs=network_namespace is not None)
    namespaces.unshare(namespaces.NEW_CGROUP, "cgroup namespace")
    for source, target in layout.binds.items():
        target.mkdir(parents=True, exist_ok=True)
        namespaces.bind(source, target)
    # Without the machine's D-Bus libvirt can't ask systemd-machined, firewalld or polkit for anything.
    if Path("/run/dbus").is_dir():
        namespaces.mount("tmpfs", "/run/dbus", kind="tmpfs")
