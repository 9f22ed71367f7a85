"""A recorded event as a NATS message, and back. Nothing is lost on the way.

Headers follow the NATS binding of CloudEvents 1.0 in binary mode (attributes as `ce-…`), plus what is Cirra's own:
https://github.com/cloudevents/spec/blob/main/cloudevents/bindings/nats-protocol-binding.md
Empty texts are left out. The data are the event's bytes as they stand in the log.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol
from urllib.parse import quote, unquote
from uuid import UUID

from core.errors import Poison
from core.eventlog.types import RecordedEvent

SPEC_VERSION = "1.0"
DATA_OMITTED = "Cirra-Data-Omitted"
_ESSENTIAL = frozenset({"Cirra-Position", "Cirra-Epoch"})
_UNFIT_FOR_A_TOKEN = re.compile(r"[^A-Za-z0-9_-]")
# What a header may hold as it is: visible ASCII but the escape itself. The rest is percent-encoded, as CloudEvents'
# HTTP binding does (section 3.1.3.2).
_PLAIN = re.compile(r"[!-$&-~]*")
_SAFE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")


class HasHeaders(Protocol):
    """A message of nats-py, from a subscription or from a stream directly."""

    @property
    def headers(self) -> dict[str, str] | None: ...

    @property
    def data(self) -> bytes | None: ...


def event_subject(cell: str, event: RecordedEvent) -> str:
    """`<cell>.events.<aggregate type>.<aggregate id>.<event name>`; the name without its protobuf package.

    Never fails: the relay must get every event out, so a character that is unfit becomes `_`.
    """
    kind, name = _subject_levels(event.aggregate_type, event.type)
    return f"{cell}.events.{kind}.{event.aggregate_id}.{name}"


def event_filter(cell: str, event_type: str) -> str:
    """The subjects of all events of a type, whatever they happen to; other types of the same name may have them too."""
    return f"{cell}.events.*.*.{_subject_levels('', event_type)[1]}"


@lru_cache(maxsize=4096)
def _subject_levels(aggregate_type: str, event_type: str) -> tuple[str, str]:
    name = event_type.rpartition(".")[2]
    return _UNFIT_FOR_A_TOKEN.sub("_", aggregate_type) or "_", _UNFIT_FOR_A_TOKEN.sub("_", name) or "_"


def event_headers(cell: str, event: RecordedEvent) -> dict[str, str]:
    aggregate_id = str(event.aggregate_id)
    headers = {
        "ce-specversion": SPEC_VERSION,
        "ce-id": str(event.event_id),
        "ce-type": _escape(event.type),
        "ce-source": f"cirra/{cell}",
        "ce-subject": aggregate_id,
        "ce-time": event.recorded_at.astimezone(UTC).isoformat(),
        "Cirra-Position": str(event.position),
        "Cirra-Epoch": str(event.epoch),
        "Cirra-Aggregate-Type": _escape(event.aggregate_type),
        "Cirra-Aggregate-Id": aggregate_id,
        "Cirra-Aggregate-Version": str(event.version),
        "Cirra-Schema-Version": str(event.schema_version),
    }
    if event.actor:
        headers["Cirra-Actor"] = _escape(event.actor)
    if event.request_id:
        headers["Cirra-Request-Id"] = _escape(event.request_id)
    if event.causation_id:
        headers["Cirra-Causation-Id"] = _escape(event.causation_id)
    if event.correlation_id:
        headers["Cirra-Correlation-Id"] = _escape(event.correlation_id)
    if event.traceparent:
        headers["traceparent"] = _escape(event.traceparent)
    return headers


def without_data(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of a stand-in for an event that is too large for a message: it holds the event's place.

    Readers take it for a gap, and read the event from the log.
    """
    return {
        **{name: value for name, value in headers.items() if name.startswith("ce-") or name in _ESSENTIAL},
        DATA_OMITTED: "1",
    }


def identity_from_message(message: HasHeaders) -> tuple[UUID, int]:
    """Event id and epoch, of a stand-in too; Poison when there are none."""
    headers = message.headers or {}
    try:
        return UUID(headers["ce-id"]), int(headers["Cirra-Epoch"])
    except (KeyError, ValueError) as error:
        raise Poison(f"not an event of the log: {error!r}") from error


def recorded_event_from_message(message: HasHeaders) -> RecordedEvent:
    """The inverse of `event_headers`; Poison when a header is missing or malformed, or the data are elsewhere."""
    headers: Mapping[str, str] = message.headers or {}
    text = headers.get
    if DATA_OMITTED in headers:
        raise Poison("the event was too large for a message: it is in the log alone")
    try:
        return RecordedEvent(
            position=int(headers["Cirra-Position"]),
            epoch=int(headers["Cirra-Epoch"]),
            event_id=UUID(headers["ce-id"]),
            aggregate_type=unquote(headers["Cirra-Aggregate-Type"]),
            aggregate_id=UUID(headers["Cirra-Aggregate-Id"]),
            version=int(headers["Cirra-Aggregate-Version"]),
            type=unquote(headers["ce-type"]),
            schema_version=int(headers["Cirra-Schema-Version"]),
            data=message.data or b"",
            recorded_at=datetime.fromisoformat(headers["ce-time"]),
            actor=unquote(text("Cirra-Actor", "")),
            request_id=unquote(text("Cirra-Request-Id", "")),
            causation_id=unquote(text("Cirra-Causation-Id", "")),
            correlation_id=unquote(text("Cirra-Correlation-Id", "")),
            traceparent=unquote(text("traceparent", "")),
        )
    except (KeyError, ValueError) as error:
        raise Poison(f"not an event of the log: {error!r}") from error


def _escape(text: str) -> str:
    """Percent-encodes what a header can't hold: control characters, spaces at the ends, beyond ASCII."""
    return text if _PLAIN.fullmatch(text) else quote(text, safe=_SAFE)
