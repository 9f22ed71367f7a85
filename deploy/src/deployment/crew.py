"""What a supervisor does with its parts: starts them stage by stage, keeps them running, stops them in reverse."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

from core.service import Lifetime
from deployment.keeper import START_ERRORS, Keeper
from deployment.parts import Part
from deployment.status import PartStatus, Phase, Status


class Crew:
    """The parts of one supervisor. Its status file tells how they are, as long as it lives, and what failed."""

    def __init__(self, status_file: Path) -> None:
        self._file = status_file
        self._status = Status(os.getpid(), Phase.STARTING)

    async def start(self, lifetime: Lifetime, start_all: Callable[[Lifetime], Awaitable[None]]) -> None:
        """Returns when *start_all* has. Raises what the part that failed says; the status file says it as well."""
        lifetime.on_stop(self._stopped, "status")
        self._say(Phase.STARTING)
        try:
            await start_all(lifetime)
        except START_ERRORS as error:
            self._say(Phase.FAILED, f"{error}{_remedy(error)}")
            raise
        self._say(Phase.READY)

    async def start_stage(self, lifetime: Lifetime, parts: Sequence[Part]) -> None:
        """All at once; they are watched from then on, and stopped together."""
        keepers = [Keeper(part, self._part_changed) for part in parts]

        async def stop() -> None:
            await asyncio.gather(*(keeper.stop() for keeper in keepers))

        lifetime.on_stop(stop, ", ".join(part.name for part in parts))
        results = await asyncio.gather(*(keeper.start() for keeper in keepers), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        for keeper in keepers:
            lifetime.start(keeper.run(), keeper.part.name)

    def _part_changed(self, name: str, part: PartStatus) -> None:
        self._status = replace(self._status, parts={**self._status.parts, name: part})
        self._status.save(self._file)

    def _say(self, phase: Phase, message: str = "") -> None:
        self._status = replace(self._status, phase=phase, message=message)
        self._status.save(self._file)

    async def _stopped(self) -> None:
        # The last to be called. After a failure the file is kept: it says what failed.
        if self._status.phase is not Phase.FAILED:
            self._file.unlink(missing_ok=True)


def _remedy(error: BaseException) -> str:
    remedy = getattr(error, "remedy", "")
    return f"\n→ {remedy}" if remedy else ""
