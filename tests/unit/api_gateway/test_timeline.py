"""The timeline of a resource: pure, from its events."""

from __future__ import annotations

from uuid import uuid4

from google.protobuf.field_mask_pb2 import FieldMask

from api_gateway.events.listing import public_event
from api_gateway.events.timeline import timeline
from cirra.agent.v1 import desired_pb2 as agent
from cirra.compute.v1 import events_pb2 as compute
from cirra.identity.v1 import events_pb2 as identity
from cirra.network.v1 import events_pb2 as network
from cirra.network.v1.network_pb2 import FixedIp
from cirra.operations.v1 import events_pb2 as saga
from cirra.operations.v1.operations_pb2 import OperationError
from cirra.placement.v1 import events_pb2 as placement
from core.sealing import REDACTED
from tests.unit.api_gateway.history import History


def test_a_step_is_one_entry_from_its_start_to_its_end() -> None:
    history, run, instance = History(), uuid4(), uuid4()
    history.add("saga", run, saga.SagaStarted(saga="instance-create"))
    history.add("saga", run, saga.StepStarted(step="bind_port", item="a", attempt=1))
    history.add("saga", run, saga.StepStarted(step="bind_port", item="b", attempt=1))
    history.add("instance", instance, compute.InstanceHostAssigned(host="h1", virt_type="kvm"))
    history.add("saga", run, saga.StepSucceeded(step="bind_port", item="b", attempt=1, detail="10.0.0.6 on h1"))
    history.add("saga", run, saga.StepSucceeded(step="bind_port", item="a", attempt=1))
    told = timeline("r", history.events)
    assert [(entry.title, entry.detail, entry.offset_ms, entry.duration_ms) for entry in told.entries] == [
        ("instance-create", "", 0, 0),
        ("bind_port", "a", 1000, 4000),
        ("bind_port", "10.0.0.6 on h1", 2000, 2000),
        ("InstanceHostAssigned", "h1 (kvm)", 3000, 0),
    ]
    assert told.trace_id == "0af7651916cd43dd8448eb211c80319c"


def test_a_step_that_only_decides_is_one_entry() -> None:
    history, run = History(), uuid4()
    history.add("saga", run, saga.StepSucceeded(step="allocate_port", item="a", attempt=1))
    history.add("saga", run, saga.StepSucceeded(step="choose", attempt=1, detail="the nearest"))
    told = timeline("r", history.events)
    assert [(entry.title, entry.detail, entry.duration_ms, entry.failed) for entry in told.entries] == [
        ("allocate_port", "a", 0, False),
        ("choose", "the nearest", 0, False),
    ]


def test_failures_say_why_and_what_was_undone() -> None:
    history, run = History(), uuid4()
    error = OperationError(reason="NO_VALID_HOST", message="no host is up")
    history.add("saga", run, saga.StepStarted(step="claim_host", attempt=2))
    history.add("saga", run, saga.StepFailed(step="claim_host", attempt=2, error=error))
    history.add("saga", run, saga.StepUndone(step="accept", attempt=1))
    history.add("saga", run, saga.SagaUnwound(error=error))
    told = timeline("r", history.events)
    assert [(entry.title, entry.detail, entry.failed) for entry in told.entries] == [
        ("claim_host", "NO_VALID_HOST: no host is up", True),
        ("undo accept", "", False),
        ("SagaUnwound", "NO_VALID_HOST: no host is up", True),
    ]


def test_who_said_so() -> None:
    history, port, instance, claim = History(), uuid4(), uuid4(), uuid4()
    history.add("port", port, network.PortCreated(fixed_ips=[FixedIp(ip_address="10.0.0.5")], mac_address="m"))
    history.add("claim", claim, placement.ClaimMade(host="h1", virt_type="kvm"))
    wired = network.PortBindingObserved(host="h1", observed=agent.PortObserved(wired=True))
    history.add("port", port, wired)
    running = agent.DomainObserved(state=agent.DOMAIN_STATE_RUNNING, image_cached=True)
    history.add("instance", instance, compute.InstanceDomainObserved(host="h1", observed=running))
    history.add("instance", instance, compute.InstanceMetadataFetched(host="h1", path="/x", user_agent="curl"))
    told = timeline("r", history.events)
    assert [(entry.source, entry.detail) for entry in told.entries] == [
        ("conductor", "10.0.0.5, m"),
        ("placement", "on h1 (kvm)"),
        ("net-agent@h1", "wired"),
        ("compute-agent@h1", "running, image from the host's cache"),
        ("metadata@h1", "/x by curl"),
    ]


def test_what_of_a_port_has_changed() -> None:
    history, mask = History(), FieldMask(paths=["display_name", "fixed_ips", "qos"])
    addresses = [FixedIp(ip_address="10.0.0.5"), FixedIp(ip_address="10.0.0.6")]
    changed = network.PortUpdated(update_mask=mask, display_name="front", fixed_ips=addresses)
    history.add("port", uuid4(), changed)
    [entry] = timeline("r", history.events).entries
    assert entry.detail == "display_name: front; fixed_ips: 10.0.0.5, 10.0.0.6; qos"


def test_public_events_are_redacted() -> None:
    history = History()
    shown = public_event(history.add("user", uuid4(), identity.UserCreated(display_name="a", password_hash=b"$argon")))
    created = identity.UserCreated()
    assert shown.data.Unpack(created)
    assert (created.display_name, created.password_hash) == ("a", REDACTED)
    assert (shown.position, shown.actor, shown.correlation_id) == (1, "u1", "c1")


def test_events_of_an_unknown_type_are_shown_without_their_data() -> None:
    history = History()
    event = history.add("user", uuid4(), identity.UserCreated(password_hash=b"$argon"))
    unknown = type(event)(**{name: getattr(event, name) for name in event.__slots__} | {"type": "cirra.future.v1.X"})
    shown = public_event(unknown)
    assert shown.type == "cirra.future.v1.X" and not shown.HasField("data")
    assert timeline("r", [unknown]).entries[0].title == "X"
