"""`PrivateLibvirtd`: libvirtd and virtlogd in namespaces of their own, started and stopped as any server."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from uuid import UUID

import psutil

from deployment.libvirtd import cgroups
from deployment.libvirtd.layout import Layout

_VIRTLOGD = Path("/usr/sbin/virtlogd")
_LIBVIRTD = Path("/usr/sbin/libvirtd")
_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 10.0
_KILL_TIMEOUT_S = 5.0
_POLL_S = 0.02


class LibvirtdError(RuntimeError):
    """A daemon did not start or did not stop; the message says what it said."""


class PrivateLibvirtd:
    """One libvirtd with its guests, in the folder `root`. Needs root; nothing of the machine's is touched.

    The daemons run by themselves: they outlive this object and this process, and an object made for the same
    `root` later takes them over. Guests outlive libvirtd. With `network_namespace` (a path such as
    /run/netns/h1) it is a host of its own, of which one machine holds several.

    The methods block (up to some seconds): call them by `asyncio.to_thread`.
    """

    def __init__(self, root: Path, host_uuid: UUID, *, network_namespace: Path | None = None) -> None:
        self.layout = Layout(root.absolute())
        self.host_uuid = host_uuid
        self._network_namespace = network_namespace

    @property
    def uri(self) -> str:
        """For libvirt's clients in any namespace of this machine."""
        return f"qemu:///system?socket={self.layout.socket}"

    @property
    def pid(self) -> int | None:
        """libvirtd's process, if it runs."""
        return self._daemon_pid("libvirtd", _LIBVIRTD)

    def start(self) -> None:
        """After it both daemons run and `uri` answers; those that run already are left alone.

        Raises `LibvirtdError`, `ValueError` for a root whose socket path is too long.
        """
        if self.pid is None:
            self.layout.prepare(self.host_uuid)
            self._prepare_cgroups()
        if self._daemon_pid("virtlogd", _VIRTLOGD) is None:
            self._launch(_VIRTLOGD)
        if self.pid is None:
            self._launch(_LIBVIRTD)

    def kill(self) -> None:
        """`kill -9` of libvirtd, for tests of what survives it; not running is success."""
        if (pid := self.pid) is not None:
            _end([pid], signal.SIGKILL)

    def stop(self, *, destroy_guests: bool = False) -> list[int]:
        """Stops libvirtd; returns the processes of the guests that still run. Not running is success.

        Guests go on unless `destroy_guests`; as long as one runs, so does virtlogd, which writes its console
        log. After the last one nothing is left: no process, mount or control group. `root` stays.
        """
        _end(_existing([self.pid]), signal.SIGTERM)
        if destroy_guests:
            _end(self.guest_pids(), signal.SIGTERM)
        if guests := self.guest_pids():
            return guests
        _end(_existing([self._daemon_pid("virtlogd", _VIRTLOGD)]), signal.SIGTERM)
        self._remove_cgroups()
        return []

    def guest_pids(self) -> list[int]:
        """The QEMU processes that run here, by their pid files."""
        pids = (_read_pid(file) for file in self.layout.guest_pid_files())
        return [pid for pid in pids if pid is not None and _is_process(pid, _is_qemu)]

    def _prepare_cgroups(self) -> None:
        record = self.layout.cgroups_record
        known = cgroups.recorded(record)
        if known and all(group.is_dir() for group in known.values()):
            return
        mountinfo, own = Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text()
        groups = cgroups.create(cgroups.hierarchies(mountinfo, own), f"cirra-libvirt-{self.host_uuid}")
        cgroups.record(groups, record)

    def _remove_cgroups(self) -> None:
        groups = list(cgroups.recorded(self.layout.cgroups_record).values())
        # What was started below us and is none of the above, such as a helper of libvirt's.
        _end(sorted(cgroups.processes(groups)), signal.SIGKILL)
        # A process that has ended leaves its group only when it has been reaped.
        if not _wait(lambda: _removed(groups), _STOP_TIMEOUT_S):
            raise LibvirtdError(f"control groups are still in use: {', '.join(map(str, groups))}")
        self.layout.cgroups_record.unlink(missing_ok=True)

    def _launch(self, daemon: Path) -> None:
        """Starts a daemon; it reports that it is ready by leaving to the background."""
        pid_file = Path("/run/libvirt") / f"{daemon.name}.pid"
        namespace = "-" if self._network_namespace is None else str(self._network_namespace)
        launcher = [sys.executable, "-m", "deployment.libvirtd", str(self.layout.root), namespace]
        # A file and no pipe: the daemon inherits it and would keep a pipe open for ever.
        output = self.layout.root / "log" / f"{daemon.name}.out"
        with output.open("wb") as stream:
            try:
                code = subprocess.run(
                    [*launcher, str(daemon), "-d", "-p", str(pid_file)],
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    timeout=_START_TIMEOUT_S,
                    cwd="/",
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired as error:
                raise LibvirtdError(f"{daemon.name} was not ready within {_START_TIMEOUT_S:g} s") from error
        if code != 0:
            said = output.read_text().strip()
            raise LibvirtdError(f"{daemon.name} exited with {code}: {said}; see {self.layout.log}")
        if not _wait(lambda: self._daemon_pid(daemon.name, daemon) is not None, _START_TIMEOUT_S):
            raise LibvirtdError(f"{daemon.name} left no pid file; see {self.layout.log}")

    def _daemon_pid(self, name: str, executable: Path) -> int | None:
        pid = _read_pid(self.layout.pid_file(name))
        if pid is None or not _is_process(pid, lambda found: found == executable.resolve()):
            return None
        return pid


def _removed(groups: list[Path]) -> bool:
    try:
        cgroups.remove(groups)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True


def _is_qemu(executable: Path) -> bool:
    return executable.name.startswith("qemu-system-")


def _read_pid(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (FileNotFoundError, ValueError):
        return None


def _is_process(pid: int, is_right: Callable[[Path], bool]) -> bool:
    """Is it alive, and its program the right one? The number in a stale file may be another's by now."""
    try:
        executable = os.readlink(f"/proc/{pid}/exe")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return is_right(Path(executable.removesuffix(" (deleted)")))


def _existing(pids: Iterable[int | None]) -> list[int]:
    return [pid for pid in pids if pid is not None]


def _end(pids: list[int], first: signal.Signals) -> None:
    """Signals the processes, and kills those which take too long. Raises `LibvirtdError` if one stays."""
    for number, timeout_s in ((first, _STOP_TIMEOUT_S), (signal.SIGKILL, _KILL_TIMEOUT_S)):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        if _wait(lambda: not any(_is_alive(pid) for pid in pids), timeout_s):
            return
    raise LibvirtdError(f"processes do not end: {[pid for pid in pids if _is_alive(pid)]}")


def _is_alive(pid: int) -> bool:
    """Zombies count as gone: they hold nothing, and only their parent can reap them."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _wait(condition: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True
