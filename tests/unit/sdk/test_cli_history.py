"""`cirra get`, `diff` and `audit`, and how times and things are told."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from grpc import StatusCode

from cirra.compute.v1 import compute_pb2 as compute
from cirra.events.v1 import events_pb2 as events
from cirra.identity.v1 import identity_pb2 as identity
from cirra.network.v1 import network_pb2 as network
from cirra_sdk.cli.changes import Change, changes
from cirra_sdk.cli.text import parse_moment
from tests.unit.sdk.conftest import Cirra
from tests.unit.sdk.fake_gateway import Failure, FakeGateway
from tests.unit.sdk.messages import at

UID = "01a1fd6f-2fa7-7ab2-91a7-9c95acdd5962"
ANN = "01a1fd6f-0000-7ab2-91a7-9c95acdd0001"
GONE = Failure(StatusCode.NOT_FOUND, "there was no instance", "NOT_FOUND", "give another time")


def _past(position: int, **fields: object) -> events.ResourceAsOf:
    answer = events.ResourceAsOf(resource=UID, position=position)
    answer.data.Pack(compute.Instance(uid=UID, **fields))  # type: ignore[arg-type]
    return answer


def _event(position: int, kind: str, request: str = "", **fields: object) -> events.Event:
    return events.Event(
        position=position,
        event_id=f"e{position}",
        type=f"cirra.compute.v1.{kind}",
        aggregate_type="instance",
        aggregate_id=UID,
        time=at(position),
        actor=ANN,
        request_id=request,
        **fields,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("text", ["10m", "-10m", "10 minutes ago", "10 min ago", "600s", "10 Minutes"])
def test_ten_minutes_ago(text: str) -> None:
    now = datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert parse_moment(text, now) == now - timedelta(minutes=10)


def test_other_moments() -> None:
    now = datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert parse_moment("1234", now) == 1234
    assert parse_moment("now", now) == now
    assert parse_moment("2026-01-30T10:00:00+02:00", now) == datetime(2026, 1, 30, 8, tzinfo=UTC)
    for wrong in ("yesterday", "0", "9999999999 days ago", ""):
        with pytest.raises(ValueError, match="give"):
            parse_moment(wrong, now)


def test_changes_are_told_field_by_field_without_stamps() -> None:
    before = compute.Instance(
        display_name="a", etag="1", nics=[compute.InstanceNic(port="p")], metadata={"k": "v"}, update_time=at(1)
    )
    after = compute.Instance(
        display_name="b", etag="2", nics=[compute.InstanceNic(port="p", leased_ip="10.0.0.9")], update_time=at(2)
    )
    assert changes(before, after) == [
        Change("display_name", "a", "b"),
        Change("metadata.k", "v", None),
        Change("nics[0].leased_ip", None, "10.0.0.9"),
    ]
    assert changes(before, before) == []
    assert Change("display_name", None, "a") in changes(None, before)


def test_get_shows_any_kind_as_it_was(gateway: FakeGateway, cirra: Cirra) -> None:
    gateway.answers("GetResourceAsOf", _past(7, display_name="web"))
    shown = cirra("get", UID, "--as-of", "7", "-o", "json")
    assert (shown.exit_code, json.loads(shown.stdout)["display_name"]) == (0, "web")
    assert gateway.requests("GetResourceAsOf") == [events.GetResourceAsOfRequest(resource=UID, position=7)]


def test_show_takes_a_position(gateway: FakeGateway, cirra: Cirra) -> None:
    gateway.answers("GetNetwork", network.Network(name=f"projects/p/networks/{UID}"))
    answer = events.ResourceAsOf()
    answer.data.Pack(network.Network(display_name="lan"))
    gateway.answers("GetResourceAsOf", answer)
    assert "lan" in cirra("network", "show", "lan", "--as-of", "12").stdout
    [request] = gateway.requests("GetResourceAsOf")
    assert (request.resource, request.position) == (f"projects/p/networks/{UID}", 12)


def test_diff(gateway: FakeGateway, cirra: Cirra) -> None:
    gateway.answers(
        "GetResourceAsOf",
        lambda request: _past(5, status=1) if request.position == 5 else _past(9, status=2, host="host-1"),
    )
    gateway.answers(
        "ListEvents",
        events.ListEventsResponse(events=[_event(8, "InstanceActivated"), _event(10, "InstanceLater")]),
    )
    told = cirra("diff", UID, "--from", "5", "--to", "9")
    assert told.exit_code == 0, told.stderr
    lines = [line.split() for line in told.stdout.splitlines()]
    assert ["status", "BUILD", "ACTIVE"] in lines and ["host", "-", "host-1"] in lines
    assert "InstanceActivated" in told.stdout and ANN in told.stdout and "InstanceLater" not in told.stdout
    record = json.loads(cirra("diff", UID, "--from", "5", "--to", "9", "-o", "json").stdout)
    assert record["changes"][0] == {"field": "status", "before": "BUILD", "after": "ACTIVE"}
    assert [event["position"] for event in record["events"]] == [8]
    assert gateway.requests("ListEvents")[0].after_position == 5


def test_diff_of_what_was_made_meanwhile(gateway: FakeGateway, cirra: Cirra) -> None:
    gateway.answers("GetResourceAsOf", _past(9, display_name="web"))
    gateway.answers("ListEvents", events.ListEventsResponse())
    gateway.fails("GetResourceAsOf", GONE)
    made = cirra("diff", UID, "--from", "5")
    assert made.exit_code == 0 and "did not exist at --from" in made.stderr and "display_name" in made.stdout
    gateway.fails("GetResourceAsOf", GONE, GONE)
    never = cirra("diff", UID, "--from", "5")
    assert (never.exit_code, never.stdout) == (3, "") and "remedy: give other times" in never.stderr


def test_diff_backwards(gateway: FakeGateway, cirra: Cirra) -> None:
    gateway.answers("GetResourceAsOf", lambda request: _past(request.position))
    wrong = cirra("diff", UID, "--from", "9", "--to", "8")
    assert wrong.exit_code == 2 and "change them round" in wrong.stderr


def test_audit_is_a_line_per_request(gateway: FakeGateway, cirra: Cirra) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    found = [
        _event(1, "InstanceCreated", "CreateInstance/r1", traceparent=trace),
        _event(2, "SagaStarted", "CreateInstance/r1"),
        _event(3, "HostDisabled"),
    ]
    gateway.answers("ListEvents", events.ListEventsResponse(events=found))
    gateway.answers("GetUser", identity.User(uid=ANN, display_name="ann"))
    told = cirra("audit", UID, "--actor", "ann", "--since", "2026-01-31T12:00:00Z")
    assert told.exit_code == 0, told.stderr
    rows = told.stdout.splitlines()[2:]
    assert len(rows) == 2 and "ann" in rows[0] and "CreateInstance" in rows[0] and "HostDisabled" in rows[1]
    [request] = gateway.requests("ListEvents")
    assert (request.actor, request.resource, request.requests_only) == (ANN, UID, True)
    assert request.since.ToDatetime(UTC) == datetime(2026, 1, 31, 12, tzinfo=UTC)
    first, second = json.loads(cirra("audit", "-o", "json").stdout)
    assert first["events"] == ["InstanceCreated", "SagaStarted"]
    assert (first["method"], first["request_id"]) == ("CreateInstance", "r1")
    assert first["trace_id"] == "0af7651916cd43dd8448eb211c80319c" and second["method"] == ""
    assert cirra("audit", "--limit", "1", "-o", "name").stdout == "\n"


def test_a_name_is_looked_for_among_all_kinds(gateway: FakeGateway, cirra: Cirra) -> None:
    nothing = Failure(StatusCode.NOT_FOUND, "none", "NOT_FOUND")
    kinds = [
        "Network",
        "Subnet",
        "Port",
        "Router",
        "FloatingIp",
        "Image",
        "ServerGroup",
        "SecurityGroup",
        "Flavor",
        "KeyPair",
        "Project",
        "User",
        "Host",
        "Aggregate",
    ]
    gateway.answers("GetTimeline", events.Timeline())
    for kind in ("Instance", *kinds):
        gateway.fails(f"Get{kind}", nothing)
    told = cirra("timeline", "lan")
    assert told.exit_code == 3 and "nothing is called 'lan'" in told.stderr and "cirra event list" in told.stderr
    for kind in ("Instance", *kinds[1:]):
        gateway.fails(f"Get{kind}", nothing)
    gateway.answers("GetNetwork", network.Network(uid="n1"))
    assert cirra("timeline", "lan").exit_code == 0
    assert gateway.requests("GetTimeline")[0].resource == "n1"
    for kind in ("Instance", *kinds[2:]):
        gateway.fails(f"Get{kind}", nothing)
    gateway.answers("GetSubnet", network.Subnet(uid="s1"))
    several = cirra("timeline", "lan")
    assert several.exit_code == 2 and "n1" in several.stderr and "s1" in several.stderr
