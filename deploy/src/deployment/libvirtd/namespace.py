"""Entering the private namespaces of a libvirtd: mounts, control groups, optionally another network.

They need no holder: a daemon that is started again enters new ones with the same binds and meets its guests.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from deployment.libvirtd import cgroups
from deployment.libvirtd.layout import Layout

# sched.h and sys/mount.h; os.unshare and os.setns came with Python 3.12.
_CLONE_NEWNS = 0x0002_0000
_CLONE_NEWCGROUP = 0x0200_0000
_CLONE_NEWNET = 0x4000_0000
_MS_BIND = 1 << 12
_MS_REC = 1 << 14
_MS_SLAVE = 1 << 19

_CGROUP_ROOT = Path("/sys/fs/cgroup")
_libc = ctypes.CDLL(None, use_errno=True)


def enter(layout: Layout, groups: dict[Path, Path], network_namespace: Path | None = None) -> None:
    """Moves this process, which must have one thread and be root's, into the namespaces of `layout`.

    `groups` is what `cgroups.create` gave: each becomes the root of its hierarchy. Raises `OSError`.
    """
    cgroups.join(list(groups.values()))
    if network_namespace is not None:
        with network_namespace.open() as file:
            _check(_libc.setns(file.fileno(), _CLONE_NEWNET), network_namespace)
    _check(_libc.unshare(_CLONE_NEWNS), "mount namespace")
    # Ours stay here, and what the machine mounts later is seen: a file system of guests' disks may come late.
    _mount("none", "/", flags=_MS_REC | _MS_SLAVE)
    _mount_cgroups(groups, new_sysfs=network_namespace is not None)
    _check(_libc.unshare(_CLONE_NEWCGROUP), "cgroup namespace")
    for source, target in layout.binds.items():
        target.mkdir(parents=True, exist_ok=True)
        _mount(source, target, flags=_MS_BIND)
    # Without the machine's D-Bus libvirt can't ask systemd-machined, firewalld or polkit for anything.
    if Path("/run/dbus").is_dir():
        _mount("tmpfs", "/run/dbus", kind="tmpfs")


def _mount_cgroups(groups: dict[Path, Path], *, new_sysfs: bool) -> None:
    """Puts each group in the place of its hierarchy's root.

    A sysfs shows the network namespace it was mounted in, so a new namespace needs a new one; that hides the
    control groups, which descriptors opened before bring back.
    """
    descriptors = {mount: os.open(group, os.O_PATH) for mount, group in groups.items()}
    if new_sysfs:
        _mount("sysfs", "/sys", kind="sysfs")
        if descriptors:
            _mount("tmpfs", _CGROUP_ROOT, kind="tmpfs")
    for mount, descriptor in descriptors.items():
        mount.mkdir(parents=True, exist_ok=True)
        _mount(f"/proc/self/fd/{descriptor}", mount, flags=_MS_BIND)
        os.close(descriptor)


def _mount(source: str | Path, target: str | Path, *, kind: str = "", flags: int = 0) -> None:
    result = _libc.mount(os.fsencode(source), os.fsencode(target), kind.encode() or None, flags, None)
    _check(result, target)


def _check(result: int, what: str | Path) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(what))
