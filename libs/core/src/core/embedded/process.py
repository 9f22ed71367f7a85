"""A server process: started, watched by its pidfd, signalled, stopped."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import time
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import psutil

_KILL_TIMEOUT_S = 10.0
_FREEZE_TIMEOUT_S = 5.0
_FREEZE_POLL_S = 0.001


class ServerProcess:
    """A running server and its descendants.

    It is watched through a pidfd (pidfd_open(2)), so that a process id used again is never mistaken for
    it, and a server that an earlier process started can be taken over with ``adopt``.
    """

    def __init__(self, pid: int, child: subprocess.Popen[bytes] | None) -> None:
        self.pid = pid
        self._child = child
        self._pidfd = os.pidfd_open(pid)
        weakref.finalize(self, os.close, self._pidfd)

    @classmethod
    def spawn(cls, command: Sequence[str], log: Path, detached: bool) -> Self:
        """Start *command*, its output appended to *log*, in a session of its own (a Ctrl-C does not reach
        it).

        Unless *detached*, the command is expected to carry ``death_signal_prefix``. Call this from the
        thread that lives as long as the server should: the kernel ties the death signal to it (prctl(2)).
        """
        with log.open("ab") as output:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        return cls(child.pid, child)

    @classmethod
    def adopt(cls, pid: int) -> Self:
        """Take over a server that another process started. Raises ProcessLookupError if it has ended."""
        return cls(pid, None)

    def has_exited(self) -> bool:
        """Whether the server has ended; reaps it if it is our child."""
        if self._child is not None:
            return self._child.poll() is not None
        readable, _, _ = select.select([self._pidfd], [], [], 0)
        return bool(readable)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the server itself; nothing if it has ended."""
        if not self.has_exited():
            # One that we don't reap ourselves may vanish at any moment: that is no error.
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def send_to_all(self, number: signal.Signals) -> None:
        """Send a signal to the server, then to its descendants (which Postgres puts into other sessions)."""
        descendants = self._descendants()
        self.send(number)
        # Stopped or killed, the server forks no more; look again for what it forked in between.
        for process in descendants | self._descendants():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def freeze(self) -> None:
        """SIGSTOP to the server and its descendants; returns once none of their threads runs any more."""
        self.send_to_all(signal.SIGSTOP)
        deadline = time.monotonic() + _FREEZE_TIMEOUT_S
        for pid in (self.pid, *(process.pid for process in self._descendants())):
            while not is_stopped(pid):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"process {pid} did not stop in {_FREEZE_TIMEOUT_S:g} s")
                time.sleep(_FREEZE_POLL_S)

    def thaw(self) -> None:
        """End a ``freeze``."""
        self.send_to_all(signal.SIGCONT)

    async def wait(self, timeout_s: float) -> None:
        """Return when the server has ended. Raises TimeoutError."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(self._pidfd, ended.set)
        try:
            async with asyncio.timeout(timeout_s):
                while not self.has_exited():
                    await ended.wait()
        finally:
            loop.remove_reader(self._pidfd)

    async def stop(self, request: signal.Signals, grace_s: float) -> None:
        """Ask the server to end with *request*; kill it and its descendants if it has not after *grace_s*."""
        self.thaw()
        self.send(request)
        try:
            await self.wait(grace_s)
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """End the server and all its descendants by SIGKILL and wait until they are gone."""
        descendants = []
        for found in self._descendants():
            with suppress(ProcessLookupError):
                descendants.append(ServerProcess.adopt(found.pid))
        self.send_to_all(signal.SIGKILL)
        for process in (self, *descendants):
            await process.wait(_KILL_TIMEOUT_S)

    def _descendants(self) -> set[psutil.Process]:
        try:
            return set(psutil.Process(self.pid).children(recursive=True))
        except psutil.NoSuchProcess:
            return set()


def is_stopped(pid: int) -> bool:
    """Whether all threads of a process are stopped, or it has ended (proc_pid_stat(5), field "state")."""
    try:
        states = [stat.read_text().rpartition(") ")[2][0] for stat in Path(f"/proc/{pid}/task").glob("*/stat")]
    except (FileNotFoundError, ProcessLookupError):
        return False  # a thread ended while we looked: look again
    return all(state in "TtZX" for state in states)


def death_signal_prefix(number: signal.Signals) -> tuple[str, ...]:
    """Put before a command, lets the kernel send it *number* when the thread that started it dies.

    ``setpriv`` is part of util-linux, which every Debian has.
    """
    return ("setpriv", "--pdeathsig", number.name.removeprefix("SIG"), "--")


def runs_with_argument(pid: int, argument: str) -> bool:
    """Whether process *pid* exists and was started with *argument* among its arguments."""
    try:
        return argument in psutil.Process(pid).cmdline()
    except psutil.NoSuchProcess:
        return False
