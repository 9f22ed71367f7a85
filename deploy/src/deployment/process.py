"""Processes that a supervisor starts and that may outlive it: found again, watched, ended.

A process is ours when its environment (proc_pid_environ(5)) names our ready file and its command line our program: a
pid file alone may name a stranger by now, and children of a service inherit its environment. Signals go to the process
alone, never to its descendants: dnsmasq, metadata proxies and QEMU outlive the agent that started them.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

READY_FILE_VARIABLE = "CIRRA_READY_FILE"
_KILL_TIMEOUT_S = 5.0
_PID_NAMESPACE = "/proc/{}/ns/pid"


@dataclass(frozen=True, slots=True)
class Program:
    """What to run: `environment` is all that it gets, and names its ready file; `log` takes what it prints."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    ready_file: Path
    pid_file: Path
    log: Path


class Watched:
    """A process, by its pidfd (pidfd_open(2)), so that a process id used again is never taken for it."""

    def __init__(self, pid: int, child: subprocess.Popen[bytes] | None = None) -> None:
        """Raises ProcessLookupError if there is none."""
        self.pid = pid
        self._child = child
        self._descriptor = os.pidfd_open(pid)

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)

    @property
    def exit_code(self) -> int | None:
        """Of a child that has ended: its code, or minus the signal that killed it."""
        return None if self._child is None else self._child.poll()

    def has_exited(self) -> bool:
        if self._child is not None:
            return self._child.poll() is not None
        return bool(select.select([self._descriptor], [], [], 0)[0])

    def is_frozen(self) -> bool:
        """Has a signal (SIGSTOP, or a debugger) stopped it? Then it lives, and does nothing."""
        with suppress(psutil.NoSuchProcess):
            return bool(psutil.Process(self.pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP))
        return False

    def send(self, number: signal.Signals) -> None:
        """To it alone; nothing if it has ended."""
        if not self.has_exited():
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, number)

    async def wait(self) -> None:
        """Returns when it has ended."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(self._descriptor, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self._descriptor)
        self.has_exited()  # reaps a child

    async def end(self, grace_s: float) -> None:
        """SIGTERM; SIGKILL when it has not ended after *grace_s*. Raises TimeoutError if even that doesn't help."""
        for number, timeout_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, _KILL_TIMEOUT_S)):
            self.send(number)
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    return await self.wait()
        raise TimeoutError(f"process {self.pid} does not end")


def spawn(program: Program) -> Watched:
    """Start it in a session of its own, its output appended to its log, its process id in its pid file."""
    program.ready_file.unlink(missing_ok=True)
    with program.log.open("ab") as output:
        child = subprocess.Popen(
            program.argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(program.environment),
            cwd="/",
            start_new_session=True,
        )
    program.pid_file.write_text(f"{child.pid}\n")
    return Watched(child.pid, child)


def find(run_folder: Path, programs: Iterable[str]) -> list[Watched]:
    """The running services whose ready file is in *run_folder*; *programs*: names of their commands.

    Those of hosts that share this machine (pid_namespaces(7)) see the same folder where another one is.
    """
    found = []
    names = frozenset(programs)
    own = os.readlink(_PID_NAMESPACE.format("self"))
    for process in psutil.process_iter():
        with suppress(psutil.Error, FileNotFoundError, ProcessLookupError):
            ready_file = process.environ().get(READY_FILE_VARIABLE, "")
            is_of_ours = ready_file and Path(ready_file).parent == run_folder and runs(process.cmdline(), names)
            if is_of_ours and os.readlink(_PID_NAMESPACE.format(process.pid)) == own:
                found.append(Watched(process.pid))
    return found


def runs(command_line: Sequence[str], programs: frozenset[str]) -> bool:
    """Is it one of the programs, run directly or, as scripts are, by an interpreter?"""
    return any(Path(argument).name in programs for argument in command_line[:2])
