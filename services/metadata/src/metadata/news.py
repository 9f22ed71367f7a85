"""What happens in the log, told to whom it concerns, and how far that has got."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import structlog

from core.eventlog.types import RecordedEvent
from core.projection import HistoryChanged, Moves

log = structlog.get_logger(__name__)


class Tail(Protocol):
    """As `core.projection.EventTail`."""

    position: int

    async def next(self) -> list[RecordedEvent]: ...

    def look(self) -> None: ...


class News:
    """`run` once per process. `end`: the position of the log's last event; `tail`: of what follows a position.

    `begin` is called with the position that is followed from, again when the log was restored; `happened` with each
    event that comes. `position`: of the last one that was told.
    """

    def __init__(
        self,
        end: Callable[[], Awaitable[int]],
        tail: Callable[[int], AbstractAsyncContextManager[Tail]],
        begin: Callable[[int], None],
        happened: Callable[[RecordedEvent], None],
    ) -> None:
        self.position = 0
        self._end = end
        self._follow = tail
        self._begin = begin
        self._happened = happened
        self._tail: Tail | None = None
        self._moves = Moves()

    async def run(self) -> None:
        """For ever. A log that was restored is followed anew."""
        while True:
            self.position = await self._end()
            self._begin(self.position)
            try:
                async with self._follow(self.position) as self._tail:
                    while True:
                        await self._tell(await self._tail.next(), self._tail.position)
            except HistoryChanged:
                log.warning("the log has another history: forgetting what was read")

    async def wait_for(self, position: int, timeout_s: float) -> bool:
        """True once all up to a position of the log was told; False when it is not in time."""
        if self.position >= position:
            return True
        if self._tail is not None:
            self._tail.look()  # what lies between may be of no concern: the stream does not tell of it
        return await self._moves.until(lambda: self.position >= position, timeout_s)

    async def _tell(self, events: list[RecordedEvent], up_to: int) -> None:
        for event in events:
            self._happened(event)
        self.position = up_to
        await self._moves.tell()
