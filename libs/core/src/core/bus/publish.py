"""Publishing what must be stored: commands, reports, dead letters. Returns once JetStream has acknowledged.

Each call has its own `Nats-Msg-Id`, the same for all its attempts: an attempt whose acknowledgement got lost
counts once. A second call is a second message: a command may be sent again on purpose.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Mapping
from uuid import UUID

import nats.errors
import structlog
from google.protobuf.message import Message
from nats.aio.msg import Msg
from nats.js.api import Header
from nats.js.errors import APIError, ServerError, ServiceUnavailableError
from opentelemetry.trace import SpanKind

from core.bus.client import encode_any_headers
from core.bus.connection import Bus
from core.bus.errors import BusUnavailable
from core.bus.tracing import inject, tracer
from core.errors import CirraError
from core.ids import uuid7

log = structlog.get_logger(__name__)

CE_TYPE = "ce-type"
ATTEMPT_TIMEOUT_S = 5.0
RETRY_FOR_S = 60.0
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0

_TRANSIENT = (
    nats.errors.TimeoutError,
    nats.errors.OutboundBufferLimitError,
    nats.errors.ConnectionClosedError,
    nats.errors.NoRespondersError,
    ServiceUnavailableError,
    ServerError,
)


class BusRefused(CirraError):
    """JetStream will not store this message, however often it is sent: it is too large, or the stream is full."""

    reason = "BUS_REFUSED"


async def publish_command(
    bus: Bus,
    host: str,
    agent: str,
    verb: str,
    object_id: str | UUID,
    message: Message,
    headers: Mapping[str, str] | None = None,
    *,
    retry_for_s: float = RETRY_FOR_S,
) -> int:
    """Stores the desired state of one object for a host's agent; returns the sequence in COMMANDS.

    It replaces an older, unread command with the same verb for the same object. Waits while NATS is away;
    BusUnavailable after `retry_for_s`, when it may have been stored all the same.
    """
    subject = bus.subjects.commands(host, agent, verb, object_id)
    return await publish_stored(bus, subject, message, headers, retry_for_s=retry_for_s)


async def publish_report(
    bus: Bus,
    host: str,
    agent: str,
    fact: str,
    object_id: str | UUID,
    message: Message,
    headers: Mapping[str, str] | None = None,
    *,
    retry_for_s: float = RETRY_FOR_S,
) -> int:
    """Stores a fact that an agent observed; returns the sequence in REPORTS. Otherwise as `publish_command`."""
    subject = bus.subjects.reports(host, agent, fact, object_id)
    return await publish_stored(bus, subject, message, headers, retry_for_s=retry_for_s)


async def publish_stored(
    bus: Bus,
    subject: str,
    message: Message,
    headers: Mapping[str, str] | None = None,
    *,
    retry_for_s: float = RETRY_FOR_S,
) -> int:
    """A protobuf message, named by `ce-type`, within a producer span."""
    with tracer.start_as_current_span(
        f"publish {subject.split('.')[1]}",
        kind=SpanKind.PRODUCER,
        attributes={"messaging.system": "nats", "messaging.destination.name": subject},
    ):
        return await publish_bytes(
            bus,
            subject,
            message.SerializeToString(),
            inject({**(headers or {}), CE_TYPE: message.DESCRIPTOR.full_name}),
            message_id=str(uuid7()),
            retry_for_s=retry_for_s,
        )


async def publish_bytes(
    bus: Bus,
    subject: str,
    data: bytes,
    headers: Mapping[str, str],
    *,
    message_id: str,
    retry_for_s: float = RETRY_FOR_S,
) -> int:
    """Publishes until it is acknowledged; returns the sequence in its stream. BusUnavailable, BusRefused."""
    deadline = time.monotonic() + retry_for_s
    pause = _FIRST_PAUSE_S
    failure: Exception | None = None
    block = encode_any_headers({**headers, Header.MSG_ID.value: message_id})
    while (remaining := deadline - time.monotonic()) > 0:
        if not bus.connected:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(remaining):
                    await bus.wait_connected()
        try:
            answer = await bus.nc.request_encoded(
                subject, data, headers=block, timeout_s=min(ATTEMPT_TIMEOUT_S, remaining)
            )
            return _sequence(answer)
        except _TRANSIENT as error:
            failure = error
            log.info("bus.publish_retried", subject=subject, error=str(error))
        except (APIError, nats.errors.MaxPayloadError) as error:
            raise BusRefused(f"{subject}: {error}") from error
        await asyncio.sleep(min(pause, max(0.0, deadline - time.monotonic())))
        pause = min(2 * pause, _LONGEST_PAUSE_S)
    raise BusUnavailable(f"{subject}: not acknowledged within {retry_for_s:g} s") from failure


def _sequence(answer: Msg) -> int:
    """Of JetStream's acknowledgement (https://docs.nats.io/reference/reference-protocols/nats_api_reference). Raises
    APIError, or the one of its kind."""
    content = json.loads(answer.data)
    if "error" in content:
        APIError.from_error(content["error"])
    return int(content["seq"])
