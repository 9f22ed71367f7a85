"""What namespaces are made of: the system calls that Python 3.11 lacks, and a host's view of its own kernel objects.

For processes with one thread, before they start anything else: mount_namespaces(7), cgroup_namespaces(7),
network_namespaces(7), pid_namespaces(7), uts_namespaces(7).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from pathlib import Path

# sched.h and sys/mount.h; os.unshare and os.setns came with Python 3.12.
NEW_MOUNT = 0x0002_0000
NEW_CGROUP = 0x0200_0000
NEW_UTS = 0x0400_0000
NEW_PID = 0x2000_0000
NEW_NETWORK = 0x4000_0000
_MS_BIND = 1 << 12
_MS_REC = 1 << 14
_MS_SLAVE = 1 << 19

_CGROUP_ROOT = Path("/sys/fs/cgroup")
_libc = ctypes.CDLL(None, use_errno=True)


def unshare(kinds: int, what: str) -> None:
    """Moves this process (with `NEW_PID`: its next child) into new namespaces of these kinds. Raises OSError."""
    _check(_libc.unshare(kinds), what)


def enter_network(namespace: Path) -> None:
    """Moves this process into the network namespace that is bound there. Raises OSError."""
    with namespace.open() as file:
        _check(_libc.setns(file.fileno(), NEW_NETWORK), namespace)


def set_hostname(name: str) -> None:
    """Of this UTS namespace; sethostname(2). Raises OSError."""
    _check(_libc.sethostname(name.encode(), len(name.encode())), name)


def keep_mounts_here() -> None:
    """Mounts made here stay here, and what the machine mounts later is seen: a file system may come late."""
    mount("none", "/", flags=_MS_REC | _MS_SLAVE)


def mount_cgroups(groups: Mapping[Path, Path], *, new_sysfs: bool) -> None:
    """Puts each group (mount point → folder) in the place of its hierarchy's root.

    A sysfs shows the network namespace it was mounted in, so a new namespace needs a new one; that hides the
    control groups, which descriptors opened before bring back.
    """
    descriptors = {point: os.open(group, os.O_PATH) for point, group in groups.items()}
    if new_sysfs:
        mount("sysfs", "/sys", kind="sysfs")
        if descriptors:
            mount("tmpfs", _CGROUP_ROOT, kind="tmpfs")
    for point, descriptor in descriptors.items():
        point.mkdir(parents=True, exist_ok=True)
        bind(f"/proc/self/fd/{descriptor}", point)
        os.close(descriptor)


def bind(source: str | Path, target: str | Path) -> None:
    """*target* shows what *source* is; both exist, and are files or folders. Raises OSError."""
    mount(source, target, flags=_MS_BIND)


def mount(source: str | Path, target: str | Path, *, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2). Raises OSError."""
    _check(
        _libc.mount(os.fsencode(source), os.fsencode(target), kind.encode() or None, flags, data.encode() or None),
        target,
    )


def _check(result: int, what: str | Path) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(what))
