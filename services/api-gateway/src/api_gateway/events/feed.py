"""What happens now, for all watchers of this process: one tail of the log, fanned out."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from uuid import UUID

import structlog

from core.bus import Bus
from core.errors import Unavailable
from core.eventlog.log import EventLog
from core.eventlog.types import Head, RecordedEvent
from core.projection import EventStream, EventTail, HistoryChanged, Moves

_log = structlog.get_logger(__name__)

# A watcher that is so far behind is cut off: it begins again where it was.
MAX_QUEUED = 10_000
# For who begins a little before now.
_RECENT = 2048


class Subscription:
    """Events after `after`, without a gap, until the feed ends it."""

    def __init__(self, after: int) -> None:
        self.after = after
        self._queue: asyncio.Queue[RecordedEvent | None] = asyncio.Queue()
        self._ended = ""

    def push(self, event: RecordedEvent) -> None:
        if self._queue.qsize() >= MAX_QUEUED:
            self.end("the watcher is too slow")
        if not self._ended:
            self._queue.put_nowait(event)

    def end(self, reason: str) -> None:
        """What is queued is still delivered; then iterating raises Unavailable."""
        if not self._ended:
            self._ended = reason
            self._queue.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[RecordedEvent]:
        async for events in self.batches():
            for event in events:
                yield event

    async def batches(self) -> AsyncIterator[list[RecordedEvent]]:
        """Batch after batch."""
        while True:
            yield await self.batch()

    async def batch(self) -> list[RecordedEvent]:
        """All that is there, at least one: for who needs but the outcome of several. Raises Unavailable at the end."""
        events: list[RecordedEvent] = []
        while not events or not self._queue.empty():
            event = await self._queue.get()
            if event is None:
                self._queue.put_nowait(None)  # for the next time
                break
            events.append(event)
        if not events:
            raise Unavailable(f"watching ended: {self._ended}", reason="WATCH_ENDED", remedy="watch again")
        return events


class Feed:
    """`run` it once per process. `position`: of the last event that subscribers and listeners were given."""

    def __init__(self, bus: Bus, log: EventLog, stream: EventStream | None = None) -> None:
        self._bus = bus
        self._event_log = log
        self._stream = stream
        # By the aggregate whose events they want; None: of all.
        self._subscriptions: defaultdict[UUID | None, set[Subscription]] = defaultdict(set)
        self._listeners: list[Callable[[RecordedEvent], None]] = []
        self._learners: list[Callable[[int], Awaitable[None]]] = []
        self._recent: deque[RecordedEvent] = deque(maxlen=_RECENT)
        self._moves = Moves()
        self._started = asyncio.Event()
        self.position = 0
        # The log's, as far as it is known here.
        self.epoch = 0

    def listen(self, listener: Callable[[RecordedEvent], None], learn: Callable[[int], Awaitable[None]]) -> None:
        """Calls `listener` with every event after the position where the feed begins. It must be quick.

        `learn`: is given that position before, to take in what the log holds up to there. Both again when the feed
        begins anew, because the log was restored.
        """
        self._listeners.append(listener)
        self._learners.append(learn)

    async def run(self) -> None:
        """For ever, from the head of the log on. A log that was restored is followed anew, from its head of then on."""
        while True:
            head = await self._begin()
            async with EventTail(
                self._bus, self._event_log, after=head.position, epoch=head.epoch, stream=self._stream
            ) as tail:
                try:
                    while True:
                        await self._deliver(await tail.next())
                except HistoryChanged as error:
                    _log.error("feed.history_changed", error=str(error))

    async def _begin(self) -> Head:
        head = await self._event_log.head()
        for learn in self._learners:
            await learn(head.position)
        # At once: who subscribes from now on begins here, who did before has seen another history.
        for subscription in chain.from_iterable(self._subscriptions.values()):
            subscription.end("the log was restored")
        self.position, self.epoch = head.position, head.epoch
        self._recent.clear()
        self._started.set()
        return head

    async def wait_started(self) -> None:
        await self._started.wait()

    async def within(self, position: int) -> int:
        """The position, or the log's end where that is before it: a client may remember one of a history that was lost
        by a restore."""
        return position if position <= self.position else min(position, await self.end())

    async def end(self) -> int:
        """The position of the log's last event."""
        return (await self._event_log.head()).position

    async def wait_for(self, position: int, timeout_s: float) -> bool:
        """True once all events up to the position were delivered; False when they were not in time."""
        if self.position >= position:
            return True
        return await self._moves.until(lambda: self.position >= position, timeout_s)

    @contextmanager
    def subscribe(self, aggregate_id: UUID | None = None, *, after: int | None = None) -> Iterator[Subscription]:
        """All events, or those of one aggregate, after the subscription's `after`: the feed's present position, or
        the one that is given where the feed still has what followed it."""
        oldest = self._recent[0].position if self._recent else self.position + 1
        begin = self.position if after is None or after + 1 < oldest else min(after, self.position)
        subscription = Subscription(begin)
        for event in self._recent:
            if event.position > begin and aggregate_id in (None, event.aggregate_id):
                subscription.push(event)
        self._subscriptions[aggregate_id].add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions[aggregate_id].discard(subscription)
            if not self._subscriptions[aggregate_id]:
                del self._subscriptions[aggregate_id]

    async def _deliver(self, events: list[RecordedEvent]) -> None:
        self._recent.extend(events)
        for event in events:
            for listener in self._listeners:
                listener(event)
            for wanted in (None, event.aggregate_id):
                for subscription in self._subscriptions.get(wanted, ()):
                    subscription.push(event)
        # Before anything is awaited: who subscribes from now on begins after these.
        self.position, self.epoch = events[-1].position, events[-1].epoch
        await self._moves.tell()
