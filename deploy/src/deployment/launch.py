"""`up`, seen from the terminal: the supervisor is started in the background, and followed until all is ready."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable

import structlog

from core import logs, service
from core.errors import CirraError
from core.settings import ServiceSettings
from deployment.complaints import log_tail
from deployment.config import Config
from deployment.layout import Layout
from deployment.lock import is_locked, locked
from deployment.machine import claimed
from deployment.process import Watched
from deployment.status import PartState, PartStatus, Phase, Status
from deployment.supervisor import Supervisor, supervisor_log

_FOLLOW_POLL_S = 0.1
_UP_TIMEOUT_S = 240.0
_STOP_TIMEOUT_S = 90.0
_log = structlog.get_logger(__name__)


class UpFailed(CirraError):
    """Something did not come up; the message says what, with the end of its log."""

    reason = "UP_FAILED"


def run_supervisor(layout: Layout, config: Config) -> int:
    """The supervisor, in this process; the exit code. Raises AlreadyRunning, MachineTaken."""
    with locked(layout), claimed(layout.root):
        logs.configure("supervisor", ServiceSettings(replica=config.host))
        try:
            return asyncio.run(
                service.run(
                    Supervisor(layout, config).bootstrap,
                    ready_file=layout.ready_file("supervisor"),
                    stop_timeout_s=_STOP_TIMEOUT_S,
                )
            )
        except Exception:
            _log.critical("could not start", exc_info=True)
            return 1


def start_in_background(layout: Layout, tell: Callable[[str], None]) -> None:
    """Start a supervisor unless there is one, and wait until all is up. Raises UpFailed."""
    process = None
    if not is_locked(layout):
        layout.status.unlink(missing_ok=True)
        process = _spawn(layout)
    deadline = time.monotonic() + _UP_TIMEOUT_S
    told: dict[str, PartStatus] = {}
    while True:
        status = Status.load(layout.status)
        if status is not None:
            _tell_changes(status, told, tell)
            if status.phase is Phase.READY:
                return
            if status.phase is Phase.FAILED:
                raise UpFailed(status.message)
        if process is not None and process.has_exited():
            raise UpFailed(f"the supervisor ended:\n{log_tail(supervisor_log(layout))}")
        if time.monotonic() > deadline:
            raise UpFailed(f"not everything was up after {_UP_TIMEOUT_S:g} s", remedy="see `make status`")
        time.sleep(_FOLLOW_POLL_S)


def _spawn(layout: Layout) -> Watched:
    with supervisor_log(layout).open("ab") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "deployment", "supervise", "--state-dir", str(layout.root)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            start_new_session=True,
        )
    return Watched(child.pid, child)


def _tell_changes(status: Status, told: dict[str, PartStatus], tell: Callable[[str], None]) -> None:
    for name, part in status.parts.items():
        before = told.get(name)
        if before is None or (before.state, before.restarts) != (part.state, part.restarts):
            told[name] = part
            if part.state is PartState.READY:
                tell(f"{name} is up (pid {part.pid})")
            elif part.state is PartState.WAITING:
                tell(f"{name} did not stay up: {part.last_end}")
