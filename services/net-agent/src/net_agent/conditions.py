"""Conditions of the host, or of what it is plugged into, that no record of it shows: probed now and then, and told with
the faults of the objects that suffer from them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from subprocess import SubprocessError

import structlog

from core.errors import CirraError
from net_agent.drivers.base import Faults

_log = structlog.get_logger(__name__)


Look = Callable[[], Awaitable[Faults]]


class Conditions:
    """`found`: by the last probes; the healer tells of them. looks: one for each kind of condition; of two faults of
    one object the earlier one's is told."""

    def __init__(self, looks: Sequence[Look], *, interval_s: float) -> None:
        self._looks = looks
        self._interval_s = interval_s
        self._found: list[Faults] = [{} for _ in looks]

    @property
    def found(self) -> Faults:
        return {key: fault for faults in reversed(self._found) for key, fault in faults.items()}

    async def run(self, fresh: Callable[[], Awaitable[None]]) -> None:
        """For ever, once *fresh* returns."""
        await fresh()
        while True:
            await self.look()
            await asyncio.sleep(self._interval_s)

    async def look(self) -> None:
        """Once. What keeps one from being found out is logged: what was found before stands."""
        for number, look in enumerate(self._looks):
            try:
                self._found[number] = await look()
            except (CirraError, OSError, SubprocessError) as error:
                _log.warning("a condition of the host could not be probed", error=str(error))
