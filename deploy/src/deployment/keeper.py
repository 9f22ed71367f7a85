"""Keeps one part running: starts it, waits for its end, starts it again after a pause that grows."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

import structlog

from cirra_sdk.errors import CirraError as CloudError
from core.errors import CirraError
from deployment.libvirtd import LibvirtdError
from deployment.parts import Part
from deployment.process import Watched
from deployment.status import PartState, PartStatus

_log = structlog.get_logger(__name__)

# What a part that can't start may raise; anything else is a fault of the supervisor's own.
START_ERRORS = (CirraError, CloudError, LibvirtdError, OSError, TimeoutError)

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 15.0
# A life of this length was a good one: the next pause is a short one again.
_GOOD_LIFE_S = 60.0
# At the first start a part that doesn't come up is an error to show, not one to wait for.
_FIRST_ATTEMPTS = 2


class Keeper:
    """Of one part. `changed` is told each change of `status`."""

    def __init__(self, part: Part, changed: Callable[[str, PartStatus], None]) -> None:
        self.part = part
        self.status = PartStatus(PartState.STOPPED)
        self._changed = changed
        self._restarts = 0
        self._last_end = ""
        self._process: Watched | None = None

    async def start(self) -> None:
        """The first start. Raises what the part raises when it doesn't come up."""
        for attempt in range(1, _FIRST_ATTEMPTS + 1):
            try:
                return await self._start()
            except START_ERRORS as error:
                if attempt == _FIRST_ATTEMPTS:
                    raise
                self._last_end = _first_line(error)
                self._say(PartState.WAITING)
                await asyncio.sleep(_FIRST_PAUSE_S)

    async def run(self) -> None:
        """For ever, after `start`."""
        pause_s = _FIRST_PAUSE_S
        while True:
            began = time.monotonic()
            if self._process is not None:
                await self._process.wait()
                code = self._process.exit_code
                self._last_end = "ended" if code is None else f"exit code {code}"
                _log.error("a part ended; starting it again", part=self.part.name, how=self._last_end)
            if time.monotonic() - began > _GOOD_LIFE_S:
                pause_s = _FIRST_PAUSE_S
            self._say(PartState.WAITING)
            # Parts that fell together need not rise together.
            await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            self._restarts += 1
            try:
                await self._start()
            except START_ERRORS as error:
                self._process = None
                self._last_end = _first_line(error)
                _log.error("a part did not start; trying again", part=self.part.name, error=str(error))

    async def stop(self) -> None:
        await self.part.stop()
        self._process = None
        self._say(PartState.STOPPED)

    async def _start(self) -> None:
        self._say(PartState.STARTING)
        self._process = await self.part.start()
        self._say(PartState.READY)

    def _say(self, state: PartState) -> None:
        pid = self._process.pid if self._process is not None and state is PartState.READY else None
        self.status = PartStatus(state, pid, time.time(), self._restarts, self._last_end)
        self._changed(self.part.name, self.status)


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
