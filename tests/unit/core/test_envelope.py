"""A recorded event as a message, and back."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.bus.envelope import event_headers, event_subject, recorded_event_from_message
from core.errors import Poison
from core.eventlog.types import RecordedEvent

EVENT = RecordedEvent(
    position=42,
    epoch=3,
    event_id=UUID(int=7),
    aggregate_type="instance",
    aggregate_id=UUID(int=9),
    version=5,
    type="cirra.compute.v1.InstanceCreated",
    schema_version=2,
    data=b"\x00\xff",
    recorded_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    actor="",
    request_id="",
    causation_id="",
    correlation_id="",
    traceparent="",
)


@dataclass
class Message:
    headers: dict[str, str] | None
    data: bytes = field(default=b"")


def carried(event: RecordedEvent) -> RecordedEvent:
    """Through headers as nats-py transmits them: trimmed, line ends turned into spaces, ASCII."""
    headers = {
        name: value.strip().translate({13: " ", 10: " "}).encode("ascii").decode()
        for name, value in event_headers("c1", event).items()
    }
    return recorded_event_from_message(Message(headers, event.data))


@given(st.text(), st.text(), st.text(), st.text(), st.text(), st.binary())
def test_nothing_is_lost(
    actor: str, request_id: str, causation_id: str, correlation_id: str, aggregate_type: str, data: bytes
) -> None:
    try:
        (actor + request_id + causation_id + correlation_id + aggregate_type).encode()
    except UnicodeEncodeError:  # lone surrogates: Postgres refuses them too
        return
    event = replace(
        EVENT,
        actor=actor,
        request_id=request_id,
        causation_id=causation_id,
        correlation_id=correlation_id,
        aggregate_type=aggregate_type,
        data=data,
    )
    assert carried(event) == event


def test_headers_follow_cloudevents() -> None:
    headers = event_headers("c1", EVENT)
    assert headers["ce-specversion"] == "1.0"
    assert headers["ce-id"] == str(EVENT.event_id)
    assert headers["ce-type"] == "cirra.compute.v1.InstanceCreated"
    assert headers["ce-source"] == "cirra/c1"
    assert headers["ce-subject"] == str(EVENT.aggregate_id)
    assert datetime.fromisoformat(headers["ce-time"]) == EVENT.recorded_at
    assert (headers["Cirra-Position"], headers["Cirra-Epoch"]) == ("42", "3")
    assert "Cirra-Actor" not in headers


def test_time_is_sent_in_utc() -> None:
    elsewhere = replace(EVENT, recorded_at=EVENT.recorded_at.astimezone(timezone(timedelta(hours=5))))
    assert event_headers("c1", elsewhere)["ce-time"].endswith("+00:00")
    assert carried(elsewhere) == EVENT


def test_the_subject_names_the_event_without_its_package() -> None:
    assert event_subject("c1", EVENT) == f"c1.events.instance.{EVENT.aggregate_id}.InstanceCreated"


def test_every_event_has_a_subject() -> None:
    odd = replace(EVENT, aggregate_type="a.b >", type="")
    assert event_subject("c1", odd) == f"c1.events.a_b__.{EVENT.aggregate_id}._"


@pytest.mark.parametrize("header", ["ce-id", "Cirra-Position", "Cirra-Epoch", "ce-time", "Cirra-Aggregate-Id"])
def test_a_missing_or_malformed_header_is_poison(header: str) -> None:
    headers = event_headers("c1", EVENT)
    with pytest.raises(Poison):
        recorded_event_from_message(Message({**headers, header: "?"}, b""))
    del headers[header]
    with pytest.raises(Poison):
        recorded_event_from_message(Message(headers, b""))
    with pytest.raises(Poison):
        recorded_event_from_message(Message(None, b""))
