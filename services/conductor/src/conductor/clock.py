"""Postgres's time: the one clock that all replicas share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime

from core.eventlog.log import EventLog


def postgres_clock(log: EventLog) -> Callable[[], Awaitable[datetime]]:
    """Tells the time (UTC) that the log's Postgres has."""

    async def now() -> datetime:
        moment: datetime = await log.pool.fetchval("SELECT clock_timestamp()")
        return moment

    return now
