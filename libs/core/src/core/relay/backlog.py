"""Reading the log ahead: while one batch is on its way to NATS, Postgres already looks for the next."""

from __future__ import annotations

import asyncio

from core.eventlog.log import EventLog
from core.eventlog.types import RecordedEvent

_LIMIT = 1000


class Backlog:
    """What follows a position, batch by batch. Reads ahead only while batches are full: else there is nothing."""

    def __init__(self, log: EventLog, position: int) -> None:
        self._log = log
        self._position = position
        self._ahead: asyncio.Task[list[RecordedEvent]] | None = None

    @property
    def reads_ahead(self) -> bool:
        """The last batch was full: the next is on its way."""
        return self._ahead is not None

    async def next(self) -> list[RecordedEvent]:
        """The next events; none at the head of the log."""
        ahead, self._ahead = self._ahead, None
        events = await (ahead or self._read())
        if events:
            self._position = events[-1].position
        if len(events) == _LIMIT:
            self._ahead = asyncio.create_task(self._read(), name="read ahead")
        return events

    async def close(self) -> None:
        if self._ahead is not None:
            self._ahead.cancel()
            await asyncio.gather(self._ahead, return_exceptions=True)

    async def _read(self) -> list[RecordedEvent]:
        return await self._log.read(after=self._position, limit=_LIMIT)
