"""What stream EVENTS tells this process: fetched and decoded once, for all of its tails.

The process that relays the log to the stream knows first what is in there: the relay tells it, and NATS is not asked.

A process that is concerned by few types of events has NATS send it those alone. Sequences then leave gaps; that nothing
got lost on the way is told by the numbers that the consumer gives to what it sends.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from core.bus.connection import Bus
from core.bus.envelope import HasHeaders, recorded_event_from_message
from core.bus.errors import Poison
from core.eventlog.types import RecordedEvent
from core.projection.reader import StreamReader

_log = structlog.get_logger(__name__)

_BATCH = 500
_LOOK_S = 30.0
# A tail that is further behind reads the log.
_WINDOW = 4096
_WINDOW_BYTES = 16 * 1024 * 1024


class StreamMessage(HasHeaders, Protocol):
    """A message of nats-py that a consumer of a stream delivered."""

    @property
    def reply(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Delivered:
    """A message of the stream; `event` is None for one that holds none."""

    sequence: int
    event: RecordedEvent | None


def delivered(message: StreamMessage) -> Delivered:
    """As it came from a consumer."""
    try:
        return Delivered(stream_sequence(message.reply), recorded_event_from_message(message))
    except Poison:
        return Delivered(stream_sequence(message.reply), None)


def stream_sequence(reply: str) -> int:
    """Of the subject on which a message is acknowledged; its forms:
    https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-15.md#jsack
    """
    tokens = reply.split(".")
    return int(tokens[5] if len(tokens) == 9 else tokens[7])


def consumer_sequence(reply: str) -> int:
    """The number that the consumer gave to a message, from 1 on, by its subject as above."""
    tokens = reply.split(".")
    return int(tokens[6] if len(tokens) == 9 else tokens[8])


class EventStream:
    """Follows the stream while one of its cursors is open, from where the first of them began.

    `types`: the full names of the events that it tells of; None: all.
    """

    def __init__(self, bus: Bus, types: Collection[str] | None = None) -> None:
        self.types = None if types is None else frozenset(types)
        self._reader = StreamReader(bus, self.types)
        self._opening = asyncio.Lock()
        self._following: asyncio.Task[None] | None = None
        self._cursors: set[EventCursor] = set()
        self._news = asyncio.Event()
        self._window: deque[Delivered] = deque()
        self._window_bytes = 0
        # Each following is another session: its messages have numbers from 0 on, and begin at this sequence.
        self._session = 0
        self._arrived = 0
        self._begins_at = 0
        # Of the last message that arrived, or before which it begins.
        self._last_sequence = 0
        # Unset while the relay of this process tells what arrives.
        self._asks_nats = asyncio.Event()

    def cursor(self) -> EventCursor:
        return EventCursor(self)

    def is_open(self, cursor: EventCursor) -> bool:
        return cursor in self._cursors and cursor.session == self._session

    async def open(self, cursor: EventCursor, first_sequence: int) -> bool:
        """False when NATS won't now, and where what is wanted has left the window."""
        async with self._opening:
            if self._following is None:
                if not await self._reader.open(first_sequence):
                    return False
                self._window.clear()
                self._window_bytes = self._arrived = 0
                self._begins_at, self._last_sequence = first_sequence, first_sequence - 1
                self._asks_nats.set()
                self._following = asyncio.create_task(self._follow(), name="events of the stream")
            if not self._reaches_back_to(first_sequence):
                return False
            behind = 0
            while behind < len(self._window) and self._window[-behind - 1].sequence >= first_sequence:
                behind += 1
            cursor.session, cursor.number = self._session, self._arrived - behind
            self._cursors.add(cursor)
            return True

    async def fetch(self, cursor: EventCursor, limit: int, timeout_s: float) -> list[Delivered]:
        """What follows the cursor; empty after `timeout_s`, when it is hurried, or lost (then it is closed)."""
        try:
            async with asyncio.timeout(timeout_s):
                while self.is_open(cursor) and cursor.number >= self._arrived and not cursor.hurried:
                    await self._news.wait()
        except TimeoutError:
            return []
        behind = self._arrived - cursor.number
        if behind == 0:
            cursor.hurried = False
        if not self.is_open(cursor) or behind > len(self._window):
            await self.close(cursor)
            return []
        taken = [self._window[number] for number in range(-behind, min(0, limit - behind))]
        cursor.number += len(taken)
        return taken

    def hurry(self, cursor: EventCursor) -> None:
        """Who waits for what follows the cursor waits no longer."""
        cursor.hurried = True
        self._wake()

    async def close(self, cursor: EventCursor) -> None:
        async with self._opening:
            self._cursors.discard(cursor)
            if self._cursors:
                return
            following, self._following = self._following, None
            if following is not None:
                following.cancel()
                await asyncio.wait((following,))
            await self._reader.close()

    def published(self, events: Sequence[RecordedEvent]) -> None:
        """What this process has put into the stream, in order. NATS is not asked for what follows, until `interrupted`;
        but for what lies before these events, where that has not arrived yet."""
        if self._following is None or self.types is not None or events[0].position > self._last_sequence + 1:
            return
        for event in events:
            self._take(Delivered(event.position, event))
        self._asks_nats.clear()
        self._wake()

    def interrupted(self) -> None:
        """Others may have put into the stream what follows."""
        self._asks_nats.set()

    def _reaches_back_to(self, sequence: int) -> bool:
        if self._arrived > len(self._window):
            return self._window[0].sequence <= sequence
        return self._begins_at <= sequence

    async def _follow(self) -> None:
        try:
            number = 0
            while self._reader.is_open:
                for message in await self._reader.fetch(_BATCH, _LOOK_S):
                    number += 1
                    if self.types is not None and consumer_sequence(message.reply) != number:
                        _log.info("tail.gap", stream_sequence=stream_sequence(message.reply))
                        return
                    self._take(delivered(message))
                self._wake()
                if not self._asks_nats.is_set():
                    await self._reader.close()
                    await self._asks_nats.wait()
                    await self._reader.open(self._last_sequence + 1)
        except Exception:
            _log.exception("tail.stream_broke_off")
        finally:  # the cursors are lost; the next one that opens begins anew
            self._session += 1
            self._cursors.clear()
            if self._following is asyncio.current_task():
                self._following = None
            self._wake()

    def _take(self, message: Delivered) -> None:
        """As it arrives, from the relay or from NATS; from the one what has come from the other already."""
        if message.sequence <= self._last_sequence:
            return
        self._last_sequence = message.sequence
        self._window.append(message)
        self._window_bytes += _size_bytes(message)
        self._arrived += 1
        while len(self._window) > _WINDOW or (self._window_bytes > _WINDOW_BYTES and len(self._window) > 1):
            self._window_bytes -= _size_bytes(self._window.popleft())

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


class EventCursor:
    """One tail's place in the stream: `number` of the message that it gets next, in this `session`."""

    def __init__(self, stream: EventStream) -> None:
        self.session = -1
        self.number = 0
        self.hurried = False
        self._stream = stream

    @property
    def types(self) -> frozenset[str] | None:
        """Of the events that it tells of; None: all."""
        return self._stream.types

    @property
    def is_open(self) -> bool:
        return self._stream.is_open(self)

    async def open(self, first_sequence: int) -> bool:
        """Begins at `first_sequence`, or later where the stream does; False when it can't be had from there."""
        await self.close()
        return await self._stream.open(self, first_sequence)

    async def fetch(self, limit: int, timeout_s: float) -> list[Delivered]:
        """The next messages, empty after `timeout_s`, when hurried, or when the stream was lost (then it is closed)."""
        return await self._stream.fetch(self, limit, timeout_s)

    def hurry(self) -> None:
        """Ends the waiting of `fetch`, of this one or the next."""
        self._stream.hurry(self)

    async def close(self) -> None:
        await self._stream.close(self)


def _size_bytes(message: Delivered) -> int:
    return len(message.event.data) if message.event is not None else 0
