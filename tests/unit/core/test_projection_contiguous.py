"""What of the stream's messages a tail takes: the events that follow, until anything is odd."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from core.bus.envelope import event_headers
from core.eventlog.types import RecordedEvent
from core.projection.stream import consumer_sequence, delivered, stream_sequence
from core.projection.tail import ascending, contiguous


@dataclass
class StreamMessage:
    """As nats-py gives it: only what is looked at."""

    sequence: int
    headers: dict[str, str] | None
    data: bytes = b""

    @property
    def reply(self) -> str:
        return f"$JS.ACK.c1-EVENTS.tail-1.1.{self.sequence}.7.1700000000000000000.0"


def event(position: int, epoch: int = 1) -> RecordedEvent:
    return RecordedEvent(
        position=position,
        epoch=epoch,
        event_id=UUID(int=position),
        aggregate_type="instance",
        aggregate_id=UUID(int=1),
        version=position,
        type="cirra.compute.v1.InstanceCreated",
        schema_version=1,
        data=b"",
        recorded_at=datetime(2026, 1, 1, tzinfo=UTC),
        actor="",
        request_id="",
        causation_id="",
        correlation_id="",
        traceparent="",
    )


def message(position: int, *, sequence: int | None = None, epoch: int = 1) -> StreamMessage:
    return StreamMessage(sequence or position, event_headers("c1", event(position, epoch)))


def taken(*messages: StreamMessage, position: int = 10, epoch: int = 1) -> tuple[list[int], bool]:
    events, gap = contiguous([delivered(message) for message in messages], position, epoch)
    return [event.position for event in events], gap


def test_the_sequences_are_told_with_a_domain_too() -> None:
    for reply in (
        "$JS.ACK.c1-EVENTS.tail-1.1.42.7.1700000000000000000.0",
        "$JS.ACK.hub.ACCOUNT.c1-EVENTS.tail-1.1.42.7.1700000000000000000.0.token",
    ):
        assert stream_sequence(reply) == 42
        assert consumer_sequence(reply) == 7


def test_what_follows_is_taken() -> None:
    assert taken(message(11), message(12), message(13)) == ([11, 12, 13], False)


def test_what_was_read_already_is_skipped() -> None:
    assert taken(message(9), message(10), message(11), message(11), message(12)) == ([11, 12], False)
    assert taken(message(3)) == ([], False)


def test_a_gap_ends_it() -> None:
    assert taken(message(11), message(13), message(14)) == ([11], True)
    assert taken(message(12)) == ([], True)


def test_a_position_that_is_not_the_sequence_ends_it() -> None:
    assert taken(message(11), message(13, sequence=12)) == ([11], True)


def test_what_is_no_event_ends_it() -> None:
    assert taken(message(11), StreamMessage(12, None), message(13)) == ([11], True)


def test_an_older_epoch_ends_it_a_newer_one_does_not() -> None:
    assert taken(message(11, epoch=2), message(12, epoch=1), epoch=2) == ([11], True)
    assert taken(message(11, epoch=2), message(12, epoch=3), epoch=2) == ([11, 12], False)


@given(st.lists(st.integers(1, 30)), st.integers(0, 30))
def test_whatever_arrives_no_event_is_left_out_or_taken_twice(arrived: list[int], position: int) -> None:
    positions, gap = taken(*(message(number) for number in arrived), position=position)
    assert positions == list(range(position + 1, position + 1 + len(positions)))
    if not gap:
        assert all(number <= position + len(positions) for number in arrived)


def taken_of_some(*messages: StreamMessage, position: int = 10, epoch: int = 1) -> tuple[list[int], bool]:
    events, gap = ascending([delivered(message) for message in messages], position, epoch)
    return [event.position for event in events], gap


def test_of_a_stream_of_some_types_what_rises_is_taken() -> None:
    assert taken_of_some(message(9), message(12), message(15), message(15), message(16)) == ([12, 15, 16], False)


def test_of_a_stream_of_some_types_anything_odd_ends_it() -> None:
    assert taken_of_some(message(12), message(14, sequence=13), message(15)) == ([12], True)
    assert taken_of_some(message(12), StreamMessage(13, None), message(15)) == ([12], True)
    assert taken_of_some(message(12, epoch=2), message(15, epoch=1), epoch=2) == ([12], True)
