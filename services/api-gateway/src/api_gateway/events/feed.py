"""What happens now, for all watchers of this process: one tail of the log, fanned out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

import structlog

from core.bus import Bus
from core.errors import Unavailable
from core.eventlog.log import EventLog
from core.eventlog.types import RecordedEvent
from core.projection import EventTail, HistoryChanged

_log = structlog.get_logger(__name__)

# A watcher that is so far behind is cut off: it begins again where it was.
MAX_QUEUED = 10_000


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
        while (event := await self._queue.get()) is not None:
            yield event
        raise Unavailable(f"watching ended: {self._ended}", reason="WATCH_ENDED", remedy="watch again")


class Feed:
    """`run` it once per process. `position`: of the last event that subscribers and listeners were given."""

    def __init__(self, bus: Bus, log: EventLog) -> None:
        self._bus = bus
        self._event_log = log
        self._subscriptions: set[Subscription] = set()
        self._listeners: list[Callable[[RecordedEvent], None]] = []
        self._moved = asyncio.Condition()
        self._started = asyncio.Event()
        self.position = 0

    def listen(self, listener: Callable[[RecordedEvent], None]) -> None:
        """Calls it with every event from the start of the feed on. It must be quick."""
        self._listeners.append(listener)

    async def run(self) -> None:
        """For ever, from the head of the log on."""
        while True:
            head = await self._event_log.head()
            async with EventTail(self._bus, self._event_log, after=head.position, epoch=head.epoch) as tail:
                self.position = head.position
                self._started.set()
                try:
                    while True:
                        await self._deliver(await tail.next())
                except HistoryChanged as error:
                    _log.error("feed.history_changed", error=str(error))
            for subscription in self._subscriptions:
                subscription.end("the log was restored")

    async def wait_started(self) -> None:
        await self._started.wait()

    async def wait_for(self, position: int, timeout_s: float) -> bool:
        """True once all events up to the position were delivered; False when they were not in time."""
        if self.position >= position:
            return True
        try:
            async with asyncio.timeout(timeout_s), self._moved:
                await self._moved.wait_for(lambda: self.position >= position)
        except TimeoutError:
            return False
        return True

    @contextmanager
    def subscribe(self) -> Iterator[Subscription]:
        """All events after the feed's present position, which is the subscription's `after`."""
        subscription = Subscription(self.position)
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    async def _deliver(self, events: list[RecordedEvent]) -> None:
        for event in events:
            for listener in self._listeners:
                listener(event)
            for subscription in tuple(self._subscriptions):
                subscription.push(event)
        # Before anything is awaited: who subscribes from now on begins after these.
        self.position = events[-1].position
        async with self._moved:
            self._moved.notify_all()
