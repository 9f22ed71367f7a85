"""Aggregates whose events are protobuf messages."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

import pytest
from google.protobuf.wrappers_pb2 import BoolValue, BytesValue, Int32Value, StringValue

from core.aggregate import Aggregate, applies, constrains, constraints_of, schema_version, upcast, upcasts
from core.errors import CirraError
from core.eventlog.types import Constraint, UniqueClaim
from core.ids import uuid7

# Well-known messages stand for events: what is registered here must not touch those of the services.


class Picture(Aggregate, kind="picture"):
    display_name: str = ""
    sha256: str = ""

    @applies(StringValue)
    def _created(self, event: StringValue) -> None:
        self.display_name = event.value

    @applies(BytesValue)
    def _activated(self, event: BytesValue) -> None:
        self.sha256 = event.value.hex()


@constrains(BoolValue)
def _rejected(image_id: UUID, event: BoolValue) -> Iterable[Constraint]:
    yield UniqueClaim("rejected", str(event.value), str(image_id))


@upcasts(Int32Value, from_version=1)
def _was_in_gib(event: Int32Value) -> None:
    event.value *= 1024


def test_state_follows_from_the_events_alone() -> None:
    picture = Picture.new(uuid7())
    picture.record(StringValue(value="cirros"))
    picture.record(BytesValue(value=b"\xab"))
    again = None
    for event in picture.collect_events():
        again = event.mutate(again)
    assert again is not None
    assert (again.id, again.version, again.display_name, again.sha256) == (picture.id, 2, "cirros", "ab")


def test_events_have_explicit_topics_and_versions_from_one() -> None:
    picture = Picture.new(uuid7())
    picture.record(StringValue())
    picture.record(BytesValue())
    events = picture.pending_events
    assert [event.originator_version for event in events] == [1, 2]
    assert [type(event).TOPIC for event in events] == ["google.protobuf.StringValue", "google.protobuf.BytesValue"]  # type: ignore[attr-defined]


def test_an_event_that_nobody_applies_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Picture applies no google.protobuf.Int32Value"):
        Picture.new(uuid7()).record(Int32Value())


def test_constraints_are_a_function_of_the_event() -> None:
    image_id = uuid7()
    assert list(constraints_of(image_id, BoolValue(value=True))) == [UniqueClaim("rejected", "True", str(image_id))]
    assert list(constraints_of(image_id, BytesValue())) == []


def test_old_messages_are_brought_up_step_by_step() -> None:
    old = Int32Value(value=2)
    upcast(old, 1)
    assert old.value == 2048
    assert schema_version("google.protobuf.Int32Value") == 2
    assert schema_version("google.protobuf.StringValue") == 1


def test_a_message_from_the_future_is_refused() -> None:
    with pytest.raises(CirraError, match="upgrade it"):
        upcast(StringValue(), 2)
