"""What the supervisor keeps running: servers, libvirtd, services. Each is started, known by a pid, stopped."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Protocol

from core.embedded.server import EmbeddedServer
from core.errors import CirraError
from deployment.complaints import complaints, log_size, log_tail
from deployment.libvirtd import PrivateLibvirtd
from deployment.process import Program, Watched, spawn

_READY_POLL_S = 0.05
_READY_TIMEOUT_S = 90.0
_STOP_GRACE_S = 15.0
_LOG_LINES = 400


class PartFailed(CirraError):
    """A part did not start; the message says what it complained of, and where its log is."""

    reason = "PART_FAILED"


class Part(Protocol):
    """`start` returns the process once the part does its job, and takes over what already runs where it can."""

    @property
    def name(self) -> str: ...

    async def start(self) -> Watched:
        """Raises PartFailed, or what the part's own starter raises (a CirraError, LibvirtdError, OSError)."""

    async def stop(self) -> None:
        """Not running is success."""


class ServerPart:
    """Postgres or NATS."""

    def __init__(self, server: EmbeddedServer) -> None:
        self.name = server.name
        self._server = server

    async def start(self) -> Watched:
        await self._server.start()
        return Watched(self._server.pid)

    async def stop(self) -> None:
        await self._server.stop()


class LibvirtPart:
    """A libvirtd of our own. Guests outlive it: what ends them is `teardown`."""

    name = "libvirtd"

    def __init__(self, libvirtd: PrivateLibvirtd) -> None:
        self._libvirtd = libvirtd

    async def start(self) -> Watched:
        await asyncio.to_thread(self._libvirtd.start)
        pid = self._libvirtd.pid
        if pid is None:
            raise PartFailed(f"libvirtd ended at its start; see {self._libvirtd.layout.log}")
        return Watched(pid)

    async def stop(self) -> None:
        await asyncio.to_thread(self._libvirtd.stop)


class ServicePart:
    """A service or an agent of Cirra's: ready when its ready file names its pid."""

    def __init__(self, program: Program, ready_timeout_s: float = _READY_TIMEOUT_S) -> None:
        self.name = program.name
        self._program = program
        self._ready_timeout_s = ready_timeout_s
        self._process: Watched | None = None

    async def start(self) -> Watched:
        before = log_size(self._program.log)
        process = self._process = spawn(self._program)
        try:
            async with asyncio.timeout(self._ready_timeout_s):
                while not is_ready(self._program.ready_file, process.pid):
                    if process.has_exited():
                        raise self._failed(f"{self.name} ended at its start (exit code {process.exit_code})", before)
                    await asyncio.sleep(_READY_POLL_S)
        except TimeoutError as error:
            await process.end(_STOP_GRACE_S)
            raise self._failed(f"{self.name} was not ready in {self._ready_timeout_s:g} s", before) from error
        return process

    async def stop(self) -> None:
        if self._process is not None:
            await self._process.end(_STOP_GRACE_S)
            self._process = None
        self._program.pid_file.unlink(missing_ok=True)

    def _failed(self, what: str, before: int) -> PartFailed:
        log = self._program.log
        said = "\n".join(complaints(log_tail(log, _LOG_LINES, offset=before))) or log_tail(log)
        return PartFailed(f"{what}\n{said}\nits log: {log}")


def is_ready(ready_file: Path, pid: int) -> bool:
    """Has the process *pid*, and no earlier one, said that it is ready?"""
    try:
        return bool(json.loads(ready_file.read_text())["pid"] == pid)
    except FileNotFoundError:
        return False
