"""Publishing events in order with many in flight.

Every message expects the stream's last sequence to be the one before its own position, so the server refuses
whatever would break the order: a gap, a repetition, another relay's double. An acknowledgement of one message
therefore vouches for all before it, and only every so many ask for one. After any trouble nothing is repeated here:
`PipelineBroken` is raised, and the relay looks at the stream again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Sequence
from typing import Protocol

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import Header

from core.bus.client import encode_headers
from core.bus.connection import Bus
from core.bus.envelope import event_headers, event_subject, without_data
from core.eventlog.types import RecordedEvent

# JetStream drops what comes once a stream has 10,000 messages or 128 MiB waiting.
_WINDOW = 4096
_WINDOW_BYTES = 16 * 1024 * 1024
_ACK_EVERY = 64
_ACK_EVERY_BYTES = 1024 * 1024
_YIELD_EVERY = 64
_EXPECTED_LAST_SEQUENCE = Header.EXPECTED_LAST_SEQUENCE.value


class PipelineBroken(Exception):
    """What was sent after `acked` may or may not be in the stream."""

    def __init__(self, reason: str, acked: int) -> None:
        super().__init__(f"{reason} (acknowledged up to {acked})")
        self.acked = acked


class Hearer(Protocol):
    """Is told what is in the stream by who puts it there."""

    def published(self, events: Sequence[RecordedEvent]) -> None:
        """The stream has taken these, one after the other."""

    def interrupted(self) -> None:
        """What it takes from here on may be told by nobody."""


class Pipeline:
    """Sends events from `position` + 1 on. `sent` and `acked` are positions."""

    def __init__(self, bus: Bus, position: int, *, ack_timeout_s: float, hearer: Hearer | None = None) -> None:
        self.sent = position
        self.acked = position
        self._bus = bus
        self._ack_timeout_s = ack_timeout_s
        self._bytes_sent = 0
        self._bytes_acked = 0
        # (position, bytes sent up to it) of each message whose acknowledgement was asked for and is awaited
        self._asked: deque[tuple[int, int]] = deque()
        self._last_asked = (position, 0)
        self._hearer = hearer
        self._unacknowledged: deque[RecordedEvent] = deque()
        self._broken: str | None = None
        self._news = asyncio.Event()
        self._inbox = ""
        self._subscription: Subscription | None = None
        self._stop_listening = bus.on_connected(lambda: self._break("the connection was lost"))

    async def __aenter__(self) -> Pipeline:
        self._inbox = self._bus.nc.new_inbox()
        try:
            self._subscription = await self._bus.nc.subscribe_directly(f"{self._inbox}.*", self._on_answer)
        except nats.errors.Error as error:
            self._stop_listening()
            raise PipelineBroken(f"can't subscribe: {error}", self.acked) from error
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._stop_listening()
        self._break("it is closed")
        if self._hearer is not None:
            self._hearer.interrupted()
        if self._subscription is not None:
            with contextlib.suppress(nats.errors.Error):
                await self._subscription.unsubscribe()

    @property
    def settled(self) -> bool:
        return self.acked == self.sent

    async def send(self, events: Sequence[RecordedEvent]) -> None:
        """Puts the next events, which follow `sent` without a gap, on their way; waits for room in the window."""
        for event in events:
            if event.position != self.sent + 1:
                raise ValueError(f"event {event.position} does not follow {self.sent}")
            while self._is_full():
                await self._progress()
            await self._publish(event, is_last=event is events[-1])
            if event.position % _YIELD_EVERY == 0:
                await asyncio.sleep(0)  # lets the connection write, and acknowledgements in
        self._raise_if_broken()

    async def settle(self) -> None:
        """Waits until everything sent is acknowledged."""
        while not self.settled:
            await self._progress()
        self._raise_if_broken()

    def _is_full(self) -> bool:
        return self.sent - self.acked >= _WINDOW or self._bytes_sent - self._bytes_acked >= _WINDOW_BYTES

    def _must_ask(self, position: int) -> bool:
        asked_position, asked_bytes = self._last_asked
        return position - asked_position >= _ACK_EVERY or self._bytes_sent - asked_bytes >= _ACK_EVERY_BYTES

    async def _publish(self, event: RecordedEvent, *, is_last: bool) -> None:
        headers, data = self._encode(event)
        self._bytes_sent += len(headers) + len(data)
        self.sent = event.position
        self._unacknowledged.append(event)
        reply = ""
        if is_last or self._must_ask(event.position):
            reply = f"{self._inbox}.{event.position}"
            self._last_asked = (event.position, self._bytes_sent)
            self._asked.append(self._last_asked)
        subject = event_subject(self._bus.cell, event)
        try:
            await self._bus.nc.publish_encoded(subject, data, reply=reply, headers=headers)
        except nats.errors.Error as error:
            raise PipelineBroken(f"can't publish {event.position}: {error}", self.acked) from error

    def _encode(self, event: RecordedEvent) -> tuple[bytes, bytes]:
        """Header block and data; a stand-in without data when the server takes no message of that size."""
        headers = event_headers(self._bus.cell, event)
        headers[_EXPECTED_LAST_SEQUENCE] = str(event.position - 1)
        block = encode_headers(headers)
        if len(block) + len(event.data) <= self._bus.nc.max_payload:
            return block, event.data
        stand_in = without_data(headers) | {_EXPECTED_LAST_SEQUENCE: headers[_EXPECTED_LAST_SEQUENCE]}
        return encode_headers(stand_in), b""

    async def _progress(self) -> None:
        """Until something has been acknowledged. Silence is a failure: an acknowledgement can be lost for ever."""
        self._raise_if_broken()
        self._news.clear()
        try:
            async with asyncio.timeout(self._ack_timeout_s):
                await self._news.wait()
        except TimeoutError:
            self._break(f"no acknowledgement within {self._ack_timeout_s:g} s")
        self._raise_if_broken()

    def _on_answer(self, message: Msg) -> None:
        position = int(message.subject.rpartition(".")[2])
        if message.headers and message.headers.get(Header.STATUS.value):
            self._break("no stream takes the events")
            return
        answer = json.loads(message.data)
        if "error" in answer:
            self._break(f"event {position} was refused: {answer['error'].get('description', answer['error'])}")
        elif answer.get("seq") != position:
            self._break(f"event {position} was stored as {answer.get('seq')}")
        else:
            self._acknowledge(position)

    def _acknowledge(self, position: int) -> None:
        """It vouches for all before it: each was taken only after the one before."""
        self.acked = max(self.acked, position)
        while self._asked and self._asked[0][0] <= position:
            self._bytes_acked = self._asked.popleft()[1]
        self._tell(position)
        self._news.set()

    def _tell(self, position: int) -> None:
        """Of what is acknowledged up to there; of nothing once it is broken: somebody else may tell then."""
        taken: list[RecordedEvent] = []
        while self._unacknowledged and self._unacknowledged[0].position <= position:
            taken.append(self._unacknowledged.popleft())
        if taken and self._hearer is not None and self._broken is None:
            self._hearer.published(taken)

    def _break(self, reason: str) -> None:
        self._broken = self._broken or reason
        self._news.set()

    def _raise_if_broken(self) -> None:
        if self._broken is not None:
            raise PipelineBroken(self._broken, self.acked)
