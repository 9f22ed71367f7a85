"""The loop that takes messages from a durable consumer and hands them to a handler.

At least once: a message is acknowledged after its handler has returned. What the handler raises decides:
`Poison`: to the dead letter, never again; anything else: redelivered, with growing delays, without limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import nats.errors
import structlog
from google.protobuf.message import DecodeError, Message
from nats.aio.msg import Msg
from opentelemetry.trace import SpanKind

from core.bus.connection import Bus
from core.bus.errors import BusUnavailable, ConsumerMissing, Poison
from core.bus.metrics import MESSAGES
from core.bus.publish import BusRefused, publish_bytes
from core.bus.puller import Puller
from core.bus.streams import ACK_WAIT_S
from core.bus.tracing import TRACEPARENT, extract, tracer

log = structlog.get_logger(__name__)

DEAD_SUBJECT = "Cirra-Dead-Subject"
DEAD_REASON = "Cirra-Dead-Reason"

_ACK = b"+ACK"
_TERMINATE = b"+TERM"
_IN_PROGRESS = b"+WPI"
_FIRST_DELAY_S = 0.5
_LONGEST_DELAY_S = 30.0
_MISSING_PAUSE_S = 0.1
_LONGEST_MISSING_PAUSE_S = 2.0
_DEAD_LETTER_RETRY_S = 10.0

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A message as the handler sees it. `delivered` counts from 1; `sequence` is the stream's."""

    subject: str
    headers: dict[str, str] = field(default_factory=dict)
    data: bytes
    sequence: int
    delivered: int

    @property
    def traceparent(self) -> str:
        return self.headers.get(TRACEPARENT, "")

    def decode(self, message_type: type[M]) -> M:
        """The payload as this protobuf message; Poison when it is none."""
        try:
            return message_type.FromString(self.data)
        except DecodeError as error:
            raise Poison(f"{self.subject}: not a {message_type.DESCRIPTOR.full_name}") from error


Handler = Callable[[Received], Awaitable[None]]


class PullLoop:
    """Runs `handler` for each message of a durable consumer, up to `concurrency` at a time.

    `ordered_by`: messages with the same key are handled one after the other (a redelivered one comes when it
    comes: handlers look at generations, not at the order). `ensure`: makes the consumer again when the server
    has lost it; without it (a host may create none) the loop waits until somebody else has.
    """

    def __init__(
        self,
        bus: Bus,
        stream: str,
        consumer: str,
        handler: Handler,
        *,
        concurrency: int = 16,
        ordered_by: Callable[[Received], str] | None = None,
        ack_wait_s: float = ACK_WAIT_S,
        heartbeat_s: float = 5.0,
        ensure: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._bus = bus
        self._stream = stream
        self._consumer = consumer
        self._handler = handler
        self._concurrency = concurrency
        self._ordered_by = ordered_by
        self._ack_wait_s = ack_wait_s
        self._heartbeat_s = heartbeat_s
        self._ensure = ensure
        self._in_flight: dict[asyncio.Task[None], Msg] = {}
        self._last_of_key: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """For ever; when cancelled, gives unfinished messages back at once."""
        puller = Puller(self._bus, self._stream, self._consumer, heartbeat_s=self._heartbeat_s)
        keeper = asyncio.create_task(self._keep_in_progress(), name=f"in-progress {self._consumer}")
        pause = _MISSING_PAUSE_S
        try:
            while True:
                await self._wait_for_a_slot()
                try:
                    messages = await puller.fetch(self._concurrency - len(self._in_flight))
                except ConsumerMissing as error:
                    log.warning("bus.consumer_missing", consumer=self._consumer, error=str(error))
                    await self._restore_consumer()
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _LONGEST_MISSING_PAUSE_S)
                    continue
                pause = _MISSING_PAUSE_S
                for message in messages:
                    self._start(message)
        finally:
            keeper.cancel()
            # First of all no more requests: what is given back must not come to us again.
            for message in await puller.close():
                await self._answer(message, _nak(0.0))
            for task in self._in_flight:
                task.cancel()
            await asyncio.gather(keeper, *self._in_flight, return_exceptions=True)

    async def _wait_for_a_slot(self) -> None:
        while len(self._in_flight) >= self._concurrency:
            await asyncio.wait(self._in_flight, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(0)  # lets the done callbacks free the slots

    async def _restore_consumer(self) -> None:
        if self._ensure is None:
            return
        try:
            await self._ensure()
        except nats.errors.Error as error:
            log.warning("bus.consumer_not_restored", consumer=self._consumer, error=str(error))

    def _start(self, message: Msg) -> None:
        metadata = message.metadata
        received = Received(
            subject=message.subject,
            headers=dict(message.headers or {}),
            data=message.data,
            sequence=metadata.sequence.stream,
            delivered=metadata.num_delivered,
        )
        key = self._ordered_by(received) if self._ordered_by else None
        before = self._last_of_key.get(key) if key is not None else None
        task = asyncio.create_task(self._handle(message, received, before), name=f"handle {message.subject}")
        self._in_flight[task] = message
        if key is not None:
            self._last_of_key[key] = task

        def finished(done: asyncio.Task[None]) -> None:
            self._in_flight.pop(done, None)
            if key is not None and self._last_of_key.get(key) is done:
                del self._last_of_key[key]
            if not done.cancelled() and (error := done.exception()) is not None:
                log.error("bus.handling_failed", subject=received.subject, error=repr(error))

        task.add_done_callback(finished)

    async def _handle(self, message: Msg, received: Received, before: asyncio.Task[None] | None) -> None:
        try:
            if before is not None:
                await asyncio.wait({before})
            answer = await self._run_handler(received)
        except asyncio.CancelledError:
            await self._answer(message, _nak(0.0))
            raise
        # An acknowledgement can wait for company: whoever sent the message has what it asked for from the handler.
        self._bus.nc.publish_later(message.reply, answer)

    async def _run_handler(self, received: Received) -> bytes:
        """What to answer: acknowledge, terminate, or give back with a delay."""
        with tracer.start_as_current_span(
            f"process {received.subject.split('.')[1]}",
            context=extract(received.headers),
            kind=SpanKind.CONSUMER,
            attributes={"messaging.system": "nats", "messaging.destination.name": received.subject},
        ) as span:
            try:
                await self._handler(received)
                MESSAGES.labels(self._consumer, "handled").inc()
                return _ACK
            except Poison as error:
                span.record_exception(error)
                MESSAGES.labels(self._consumer, "poison").inc()
                return await self._bury(received, error)
            except Exception as error:
                span.record_exception(error)
                MESSAGES.labels(self._consumer, "retried").inc()
                delay_s = retry_delay_s(received.delivered)
                log.warning(
                    "bus.message_retried",
                    subject=received.subject,
                    delivered=received.delivered,
                    delay_s=delay_s,
                    error=repr(error),
                    traceback="".join(traceback.format_exception(error)),  # without local variables: they hold the data
                )
                return _nak(delay_s)

    async def _bury(self, received: Received, error: Poison) -> bytes:
        """To the dead letter; only once it is stored there may the message end."""
        log.error("bus.poison", subject=received.subject, sequence=received.sequence, error=str(error))
        kept = {name: value for name, value in received.headers.items() if not name.startswith("Nats-")}
        try:
            await publish_bytes(
                self._bus,
                self._bus.subjects.dead_letters(self._consumer, self._stream),
                received.data,
                {**kept, DEAD_SUBJECT: received.subject, DEAD_REASON: str(error)},
                message_id=f"{self._stream}:{self._consumer}:{received.sequence}",
                retry_for_s=_DEAD_LETTER_RETRY_S,
            )
        except (BusUnavailable, BusRefused) as refusal:
            log.error("bus.poison_not_buried", subject=received.subject, error=str(refusal))
            return _nak(retry_delay_s(received.delivered))
        return _TERMINATE

    async def _answer(self, message: Msg, answer: bytes) -> None:
        """Lost answers do no harm: the message is delivered again."""
        with contextlib.suppress(nats.errors.Error):
            await self._bus.nc.publish(message.reply, answer)

    async def _keep_in_progress(self) -> None:
        """Tells the server in good time that handling goes on, for messages that wait for their turn as well."""
        while True:
            await asyncio.sleep(self._ack_wait_s / 3)
            for message in list(self._in_flight.values()):
                await self._answer(message, _IN_PROGRESS)


def retry_delay_s(delivered: int) -> float:
    """Seconds before the next delivery: doubling from half a second to half a minute."""
    return min(_FIRST_DELAY_S * 2.0 ** min(delivered - 1, 10), _LONGEST_DELAY_S)


def _nak(delay_s: float) -> bytes:
    return b"-NAK" if delay_s <= 0 else b"-NAK " + json.dumps({"delay": int(delay_s * 1e9)}).encode()
