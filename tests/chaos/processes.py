"""A service or an agent as a process of its own, which a supervisor starts again when it ends."""

from __future__ import annotations

import asyncio
import dataclasses
import signal
from contextlib import suppress

from core.embedded.process import death_signal_prefix
from deployment.parts import PartFailed, ServicePart
from deployment.process import Program, Watched

# As the deployment's supervisor pauses at first. It does not grow here: each death is a story of its own.
RESTART_S = 0.5


class Process:
    """Ends with the tests, whatever ends them. `deaths`: how often it has ended since its first start."""

    def __init__(self, program: Program) -> None:
        self.name = program.name
        self.log = program.log
        self.deaths = 0
        argv = (*death_signal_prefix(signal.SIGKILL), *program.argv)
        self._part = ServicePart(dataclasses.replace(program, argv=argv))
        self._process: Watched | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()
        self._ended = asyncio.Event()

    @property
    def pids(self) -> list[int]:
        """Its process, if there is one."""
        return [] if self._process is None else [self._process.pid]

    async def start(self) -> None:
        """Returns when it does its job. Raises PartFailed."""
        self._wanted.set()
        self._process = await self._part.start()
        self._keeping = asyncio.create_task(self._keep(), name=f"keep {self.name}")

    async def stop(self) -> None:
        """In good order, for good."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait({self._keeping})
        await self._part.stop()

    async def kill(self) -> None:
        """`kill -9`; it is started again, unless it is kept down. Nothing to do if it has ended already."""
        if self._process is not None:
            self._ended.clear()
            self._process.send(signal.SIGKILL)
            await self._ended.wait()

    def keep_down(self) -> None:
        """From the next death on it is not started again, until `let_up`."""
        self._wanted.clear()

    def let_up(self) -> None:
        self._wanted.set()

    async def _keep(self) -> None:
        while True:
            if self._process is not None:
                await self._process.wait()
                self._process = None
                self.deaths += 1
                self._ended.set()
            await asyncio.sleep(RESTART_S)
            await self._wanted.wait()
            with suppress(PartFailed):  # it said why in its log, and is tried again
                self._process = await self._part.start()
