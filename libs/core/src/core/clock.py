"""The time that machines agree on: Postgres's. No decision between machines is made by the wall clock of one of them.

Whoever issues something that ends, or judges whether it has ended, asks a `DatabaseClock`. It measures Postgres's
clock now and then, as in Cristian, "Probabilistic clock synchronization", 1989, and counts on from there on a clock
that nobody can set. A host whose own clock is an hour off is so as right as any other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg
import structlog

from core.eventlog.connections import backoff, is_transient

MEASURE_EVERY_S = 30.0
MAX_ROUND_TRIP_S = 1.0
"""An answer that took longer (a paused process, a stalled network) says too little: half of it is the error."""

_log = structlog.get_logger(__name__)


def boot_time_s() -> float:
    """Seconds since the machine booted, those in suspension included (clock_gettime(2), CLOCK_BOOTTIME)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class _Measured:
    """What Postgres's clock said, and what the own one said at that moment."""

    told: datetime
    at_s: float


class DatabaseClock:
    """`now()` is Postgres's time to within `MAX_ROUND_TRIP_S` / 2; while Postgres is away, it counts on.

    Made by `start`, which waits for the first measurement; `run` keeps it right.
    """

    def __init__(self, ask: Callable[[], Awaitable[datetime]], *, boot_time: Callable[[], float] = boot_time_s) -> None:
        self._ask = ask
        self._boot_time = boot_time
        self._measured: _Measured | None = None

    @classmethod
    async def start(cls, pool: asyncpg.Pool) -> DatabaseClock:
        """One that tells the time already."""

        async def ask() -> datetime:
            told: datetime = await pool.fetchval("SELECT clock_timestamp()", timeout=MAX_ROUND_TRIP_S * 5)
            return told

        clock = cls(ask)
        await clock.measure()
        return clock

    def now(self) -> datetime:
        """An aware datetime in UTC."""
        if self._measured is None:
            raise RuntimeError("the clock was not measured yet")
        return self._measured.told + timedelta(seconds=self._boot_time() - self._measured.at_s)

    async def measure(self) -> None:
        """Sets the clock by Postgres's; tries until it has an answer that is good enough."""
        for pause in backoff():
            asked_at = self._boot_time()
            try:
                told = await self._ask()
            except Exception as error:
                if not is_transient(error):
                    raise
                _log.warning("the time can't be asked of Postgres, trying on", error=repr(error))
            else:
                answered_at = self._boot_time()
                if answered_at - asked_at <= MAX_ROUND_TRIP_S:
                    self._measured = _Measured(told.astimezone(UTC), (asked_at + answered_at) / 2)
                    return
                _log.info("Postgres told the time too slowly, asking again", seconds=answered_at - asked_at)
            await asyncio.sleep(pause)

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(MEASURE_EVERY_S)
            await self.measure()
