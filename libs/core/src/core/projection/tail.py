"""Every event from a position on: gapless, in order, once.

The stream tells what is new; the log is asked for whatever the stream can't give: what lies before its window, a gap,
all of it while NATS is away. So nothing is missed whatever NATS does, and the log is not polled while NATS works.

A tail of a stream that tells of some types only gives those and, whenever the log was read, the last event there was,
which says how far the tail is. By the stream alone it gets further only with the next event of concern; `look` has it
read the log.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from itertools import takewhile
from uuid import UUID

import structlog

from core.bus.connection import Bus
from core.errors import Unavailable
from core.eventlog.connections import backoff, is_transient
from core.eventlog.log import EventLog
from core.eventlog.types import RecordedEvent
from core.projection.errors import HistoryChanged
from core.projection.stream import Delivered, EventStream

_log = structlog.get_logger(__name__)

BATCH = 500


class EventTail:
    """An async iterator of events, without a lease: for projectors, watchers, in-memory views.

    Begins after position `after`; `event_id` and `epoch` say what was read there, where the caller knows it.
    Never ends. Waits while Postgres is away. Raises HistoryChanged when the log was restored to before what has
    been read: the caller then starts from zero with a new tail. `stream`: shared by the tails of a process, so that
    each message is fetched and decoded once.
    """

    def __init__(
        self,
        bus: Bus,
        log: EventLog,
        *,
        after: int = 0,
        event_id: UUID | None = None,
        epoch: int = 0,
        stall_s: float = 2.0,
        stream: EventStream | None = None,
    ) -> None:
        self.position = after
        self._event_id = event_id
        self._epoch = epoch
        self._event_log = log
        self._bus = bus
        self._stall_s = stall_s
        self._reader = (stream or EventStream(bus)).cursor()
        self._behind = True
        self._checked = False
        self._ready: deque[RecordedEvent] = deque()

    async def __aenter__(self) -> EventTail:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def __aiter__(self) -> AsyncIterator[RecordedEvent]:
        return self

    async def __anext__(self) -> RecordedEvent:
        if not self._ready:
            self._ready.extend(await self.next())
        return self._ready.popleft()

    async def close(self) -> None:
        await self._reader.close()

    async def next(self, limit: int = BATCH, *, patient: bool = True) -> list[RecordedEvent]:
        """The next events, at least one, at most `limit`; `position` moves on to the last of them.

        Without patience: none after `stall_s` of quiet.
        """
        pauses = backoff()
        while True:
            try:
                return await self._next(limit, patient)
            except Unavailable as error:
                _log.warning("tail.log_away", position=self.position, error=str(error))
            except Exception as error:
                if not is_transient(error):
                    raise
                _log.warning("tail.log_away", position=self.position, error=repr(error))
            await asyncio.sleep(next(pauses))

    def look(self) -> None:
        """Who waits for the next events looks whether the log has more than the stream tells, instead of waiting on."""
        self._reader.hurry()

    async def _next(self, limit: int, patient: bool) -> list[RecordedEvent]:
        if not self._checked:
            self._epoch = max(self._epoch, (await self._event_log.head()).epoch)
            await self._check_history()
            self._checked = True
        while True:
            if self._behind:
                events = await self._from_log(limit)
                self._behind = len(events) == limit
            else:
                events = await self._from_stream(limit)
            if events:
                return await self._accept(events)
            if not self._behind:
                await self._look_at_the_head()
                if not (patient or self._behind):
                    return []

    async def _from_log(self, limit: int) -> list[RecordedEvent]:
        types = self._reader.types
        if types is None:
            return await self._event_log.read(after=self.position, limit=limit)
        head = await self._event_log.head()
        return await self._event_log.read_of(types, after=self.position, up_to=head.position, limit=limit)

    async def _from_stream(self, limit: int) -> list[RecordedEvent]:
        """What follows `position` in the stream; empty after a while, or when the log must be read instead."""
        if not await self._is_ready():
            await self._event_log.wait_beyond(self.position, timeout=self._stall_s)
            return []
        if self._behind:
            return []
        messages = await self._reader.fetch(limit, self._stall_s)
        is_whole = self._reader.types is None
        events, gap = (contiguous if is_whole else ascending)(messages, self.position, self._epoch)
        if gap:
            _log.info("tail.gap", position=events[-1].position if events else self.position)
            self._behind = True
        return events

    async def _is_ready(self) -> bool:
        """Whether the stream tells what follows. One that has only begun to, and of some types only, may have begun too
        late without showing it: the log is read once more."""
        if not self._bus.connected:
            return False
        if self._reader.is_open:
            return True
        if not await self._reader.open(self.position + 1):
            return False
        self._behind = self._reader.types is not None
        return True

    async def _accept(self, events: list[RecordedEvent]) -> list[RecordedEvent]:
        """Moves on past the events, those of one epoch at a time."""
        epoch = events[0].epoch
        if epoch > self._epoch:
            await self._check_history()
        accepted = list(takewhile(lambda event: event.epoch == epoch, events))
        self._behind = self._behind or len(accepted) < len(events)
        last = accepted[-1]
        if self._reader.types is None and last.position != self.position + len(accepted):
            raise HistoryChanged(self.position)
        self.position, self._event_id, self._epoch = last.position, last.event_id, max(epoch, self._epoch)
        return accepted

    async def _look_at_the_head(self) -> None:
        """In quiet times: has the log more than the stream tells, or another history?"""
        head = await self._event_log.head()
        if head.epoch != self._epoch or head.position < self.position:
            await self._check_history()
            self._epoch = max(self._epoch, head.epoch)
        self._behind = head.position > self.position

    async def _check_history(self) -> None:
        """HistoryChanged unless the log still holds what was read last."""
        if self.position == 0:
            return
        found = await self._event_log.read(after=self.position - 1, limit=1, up_to=self.position)
        if not found or (self._event_id is not None and found[0].event_id != self._event_id):
            raise HistoryChanged(self.position)
        self._event_id = found[0].event_id


def contiguous(messages: Sequence[Delivered], position: int, epoch: int) -> tuple[list[RecordedEvent], bool]:
    """The events that follow `position` without a gap, and whether something else came after them.

    Messages up to `position` were read already. A message of an epoch before `epoch` may be of a history that the
    log no longer has: the stream is about to be rebuilt, and only the log can tell.
    """
    events: list[RecordedEvent] = []
    for message in messages:
        expected = position + len(events) + 1
        if message.sequence < expected:
            continue
        event = message.event
        if message.sequence > expected or event is None or event.position != expected or event.epoch < epoch:
            return events, True
        events.append(event)
    return events, False


def ascending(messages: Sequence[Delivered], position: int, epoch: int) -> tuple[list[RecordedEvent], bool]:
    """As `contiguous`, of a stream that tells of some types only, and has seen that none of its messages is missing."""
    events: list[RecordedEvent] = []
    for message in messages:
        if message.sequence <= position:
            continue
        event = message.event
        if event is None or event.position != message.sequence or event.epoch < epoch:
            return events, True
        events.append(event)
        position = event.position
    return events, False
