"""Long-lived processes that outlive the agent: found again, checked, ended.

A process is ours when its command line (proc_pid_cmdline(5)) holds an argument that no other process has, such as the
path of its own pid file. It is signalled through a pidfd (pidfd_open(2)) that was opened before that check, so that a
reused process id can't be hit. Everything here blocks.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from net_agent.drivers.base import NetworkFault

_STOP_TIMEOUT_S = 5.0


def command_line(pid: int) -> tuple[str, ...]:
    """Empty for a process that has ended, waited for or not."""
    try:
        content = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return ()
    return tuple(os.fsdecode(content).split("\0")[:-1])


def find(marker: str, pid_file: Path) -> int | None:
    """The process id by the pid file; when that is stale or lost, by a look at every process."""
    try:
        pid = int(pid_file.read_text())
    except (FileNotFoundError, ValueError):
        pid = 0
    if pid > 0 and marker in command_line(pid):
        return pid
    candidates = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return next((pid for pid in candidates if marker in command_line(pid)), None)


def start(argv: Sequence[str], timeout_s: float) -> None:
    """Runs a command that puts itself in the background when it is ready: exit 0 means it serves.

    Raises NetworkFault with what it said when it exits otherwise.
    """
    try:
        result = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            start_new_session=True,
            cwd="/",
            check=False,
        )
    except FileNotFoundError as error:
        raise NetworkFault(
            f"{argv[0]} is not installed", reason="PROGRAM_MISSING", remedy="install it on this host", reschedule=True
        ) from error
    except subprocess.TimeoutExpired as error:
        raise NetworkFault(f"{argv[0]} was not ready within {timeout_s:g} s") from error
    if result.returncode != 0:
        said = (result.stderr or result.stdout).decode(errors="replace").strip()
        raise NetworkFault(f"{' '.join(argv[:3])} ended with {result.returncode}: {said[-500:]}")


def send(pid: int, marker: str, number: signal.Signals) -> bool:
    """Signals the process if it still is the one meant; says whether it was."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        if marker not in command_line(pid):
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def stop(marker: str, pid_file: Path) -> None:
    """Ends it and waits until it has ended: politely, then not. Absent is success; the pid file goes too."""
    while (pid := find(marker, pid_file)) is not None:
        _end(pid, marker)
    pid_file.unlink(missing_ok=True)


def _end(pid: int, marker: str) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if marker not in command_line(pid):
                return
            signal.pidfd_send_signal(descriptor, number)
            # A pidfd becomes readable when its process has ended.
            if select.select([descriptor], [], [], _STOP_TIMEOUT_S)[0]:
                return
        raise NetworkFault(f"process {pid} ({marker}) does not end")
    except ProcessLookupError:
        return
    finally:
        os.close(descriptor)
