"""After the log has begun a new epoch, no host that was known takes anything before it is accepted."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

from google.protobuf.message import Message

from cirra.operations.v1.events_pb2 import EpochRaised
from cirra.placement.v1 import differences_pb2 as differences
from cirra.placement.v1 import events_pb2 as pb
from cirra.placement.v1 import scheduling_pb2 as scheduling
from core.eventlog.types import RecordedEvent
from core.ids import host_aggregate_id
from placement.hosts.host import Host
from placement.hosts.view import HostView
from placement.scheduling.filters.state import Accepted


def fold(view: HostView, *messages: Message) -> list[str]:
    """Who takes guests after these events, as far as the epoch goes."""
    for message in messages:
        event = RecordedEvent(
            position=view.position + 1,
            epoch=1,
            event_id=uuid4(),
            aggregate_type="host",
            aggregate_id=uuid4(),
            version=1,
            type=message.DESCRIPTOR.full_name,
            schema_version=1,
            data=message.SerializeToString(),
            recorded_at=datetime.now(UTC),
            actor="",
            request_id="",
            causation_id="",
            correlation_id="",
            traceparent="",
        )
        view.apply(event)
    mask = Accepted().mask(view.table, scheduling.ClaimRequest())
    return [name for name, keep in zip(view.table.names, mask, strict=True) if keep]


def test_hosts_of_before_the_epoch_wait_to_be_accepted() -> None:
    view = HostView()
    assert fold(view, pb.HostEnrolled(host="a"), pb.HostEnrolled(host="b")) == ["a", "b"]
    assert fold(view, EpochRaised(epoch=2)) == []
    assert fold(view, pb.HostEnrolled(host="new")) == ["new"]
    assert fold(view, pb.HostDifferencesAccepted(host="b", epoch=1)) == ["new"], "that was of an epoch before"
    assert fold(view, pb.HostDifferencesAccepted(host="b", epoch=2)) == ["b", "new"]
    assert fold(view, EpochRaised(epoch=3)) == []


def test_a_host_says_once_that_it_is_observe_only_and_is_accepted_once() -> None:
    host = Host.new(host_aggregate_id("a"))
    host.enrol("a", "")
    host.observe_only(2)
    host.observe_only(2)
    found = differences.HostDifference(kind=differences.DIFFERENCE_KIND_UNKNOWN, object_kind="domain", object_id="i")
    host.accept(2, "etag", [found])
    host.accept(2, "another", [])
    host.observe_only(2)
    host.observe_only(3)
    said = [event.data for event in host.pending_events]  # type: ignore[attr-defined]
    assert [type(message).__name__ for message in said[1:]] == [
        "HostObserveOnly",
        "HostDifferencesAccepted",
        "HostObserveOnly",
    ]
    assert said[2] == pb.HostDifferencesAccepted(host="a", epoch=2, etag="etag", differences=[found])
