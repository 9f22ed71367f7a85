"""Conditions of the host, or of what it is plugged into, that no record of it shows: probed now and then, and told with
the faults of the objects that suffer from them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from core.errors import CirraError
from net_agent.drivers.base import Faults, NetworkDriver

_log = structlog.get_logger(__name__)


class Conditions:
    """`found`: by the last probe; the healer tells of them."""

    def __init__(self, driver: NetworkDriver, *, interval_s: float) -> None:
        self._driver = driver
        self._interval_s = interval_s
        self.found: Faults = {}

    async def run(self, fresh: Callable[[], Awaitable[None]]) -> None:
        """For ever, once *fresh* returns."""
        await fresh()
        while True:
            await self.look()
            await asyncio.sleep(self._interval_s)

    async def look(self) -> None:
        """Once. What keeps it from being found out is logged: what was found before stands."""
        try:
            self.found = await self._driver.conditions()
        except (CirraError, OSError) as error:
            _log.warning("the host's conditions could not be probed", error=str(error))
