"""Network namespaces: making, removing, and running code inside one (network_namespaces(7), setns(2), ip-netns(8)).

A namespace belongs to a thread, so code runs inside one in a thread of a small pool: no fork, which a process with gRPC
threads could not bear. A child process that such code starts is born in the thread's namespace.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

CLONE_NEWNET = 0x4000_0000
MS_BIND, MS_REC, MS_SHARED = 0x1000, 0x4000, 0x10_0000
MNT_DETACH = 2

NETNS_DIRECTORY = Path("/run/netns")
OWN_NAMESPACE = Path("/proc/self/ns/net")

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def enter(namespace: Path) -> None:
    """Moves the calling thread into a namespace. Raises OSError (ENOENT: there is none)."""
    descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.setns(descriptor, CLONE_NEWNET), f"setns {namespace}")
    finally:
        os.close(descriptor)


class Namespaces:
    """The host's own namespace and the named ones beside it.

    host: the namespace that counts as the host's; tests give a private one.
    directory: where named namespaces are bound, as ip-netns(8) does; one per host when hosts share a machine.
    """

    def __init__(self, *, host: Path = OWN_NAMESPACE, directory: Path = NETNS_DIRECTORY, threads: int = 8) -> None:
        self._host = host
        self._directory = directory
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="netns")

    def path(self, name: str) -> Path:
        return self._directory / name

    async def on_host(self, function: Callable[[], T]) -> T:
        """Runs a blocking function in the host's namespace."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._call, self._host, function)

    async def inside(self, name: str, function: Callable[[], T]) -> T:
        """Runs a blocking function in a named namespace. Raises FileNotFoundError when there is none."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._call, self.path(name), function)

    def _call(self, namespace: Path, function: Callable[[], T]) -> T:
        enter(namespace)
        try:
            return function()
        finally:
            # An idle thread would keep a removed namespace, and its half of a veth pair, alive.
            enter(self._host)

    def exists(self, name: str) -> bool:
        """A file that nothing is mounted on, left by a crash, is not a namespace."""
        try:
            return self.path(name).stat().st_dev != self._directory.stat().st_dev
        except FileNotFoundError:
            return False

    async def create(self, name: str) -> None:
        """Makes a namespace; there already is one: nothing to do."""
        if not self.exists(name):
            await self.on_host(lambda: self._create(name))

    def _create(self, name: str) -> None:
        self._share_directory()
        path = self.path(name)
        path.unlink(missing_ok=True)
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o444))
        try:
            _check(_libc.unshare(CLONE_NEWNET), "unshare")
            source = b"/proc/thread-self/ns/net"
            _check(_libc.mount(source, os.fsencode(path), b"none", MS_BIND, None), f"mount {path}")
        except OSError:
            path.unlink(missing_ok=True)
            raise

    def _share_directory(self) -> None:
        """Mounts below the directory must reach every mount namespace of the host (as ip-netns(8) does)."""
        self._directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        target = os.fsencode(self._directory)
        if _libc.mount(b"", target, b"none", MS_SHARED | MS_REC, None) != 0:
            _check(_libc.mount(target, target, b"none", MS_BIND | MS_REC, None), f"bind {self._directory}")
            _check(_libc.mount(b"", target, b"none", MS_SHARED | MS_REC, None), f"share {self._directory}")

    async def delete(self, name: str) -> None:
        """Removes the name; the namespace itself ends with the last process in it. Absent is success."""
        path = self.path(name)
        if self.exists(name):
            _check(_libc.umount2(os.fsencode(path), MNT_DETACH), f"umount {path}")
        path.unlink(missing_ok=True)

    def close(self) -> None:
        self._pool.shutdown(wait=True)
