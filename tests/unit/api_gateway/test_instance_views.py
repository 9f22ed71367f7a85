"""Instances, from their events."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from api_gateway.views.instance import INSTANCE, with_addresses
from api_gateway.views.network import PORT
from cirra.agent.v1 import desired_pb2 as agent
from cirra.compute.v1 import compute_pb2 as compute
from cirra.compute.v1 import events_pb2 as compute_events
from cirra.network.v1 import events_pb2 as network_events
from cirra.network.v1 import network_pb2 as network
from tests.unit.api_gateway.history import BEGIN, History, row_of


def _instance(history: History, *messages: Any) -> compute.Instance:
    uid = uuid4()
    created = compute_events.InstanceCreated(
        project_id="p1", display_name="web", task_id="t1", user_data=b"sealed", metadata={"a": "b"}
    )
    history.add_all("instance", uid, created, *messages)
    instance: compute.Instance = row_of(history, INSTANCE, uid).resource
    return instance


def _observed(state: agent.DomainState.ValueType) -> compute_events.InstanceDomainObserved:
    return compute_events.InstanceDomainObserved(host="h1", observed=agent.DomainObserved(state=state))


def test_is_built_by_its_saga(history: History) -> None:
    instance = _instance(history)
    assert (instance.status, instance.task_state) == (compute.INSTANCE_STATUS_BUILD, "instance-create")
    assert instance.name == f"projects/p1/instances/{instance.uid}"
    assert instance.create_time.ToDatetime(BEGIN.tzinfo) == history.events[0].recorded_at
    assert dict(instance.metadata) == {"a": "b"}


def test_stays_in_build_whatever_its_domain_does_before_activation(history: History) -> None:
    instance = _instance(history, _observed(agent.DOMAIN_STATE_SHUTOFF), _observed(agent.DOMAIN_STATE_RUNNING))
    assert instance.status == compute.INSTANCE_STATUS_BUILD
    assert instance.power_state == compute.POWER_STATE_RUNNING


def test_is_active_once_activated(history: History) -> None:
    instance = _instance(
        history,
        _observed(agent.DOMAIN_STATE_RUNNING),
        compute_events.InstanceActivated(),
        compute_events.InstanceTaskEnded(task_id="t1"),
    )
    assert (instance.status, instance.task_state) == (compute.INSTANCE_STATUS_ACTIVE, "")


@pytest.mark.parametrize(
    ("state", "status", "power"),
    [
        (agent.DOMAIN_STATE_SHUTOFF, compute.INSTANCE_STATUS_SHUTOFF, compute.POWER_STATE_SHUTDOWN),
        (agent.DOMAIN_STATE_CRASHED, compute.INSTANCE_STATUS_SHUTOFF, compute.POWER_STATE_CRASHED),
        (agent.DOMAIN_STATE_PAUSED, compute.INSTANCE_STATUS_ACTIVE, compute.POWER_STATE_PAUSED),
        (agent.DOMAIN_STATE_RUNNING, compute.INSTANCE_STATUS_ACTIVE, compute.POWER_STATE_RUNNING),
    ],
)
def test_follows_its_domain_after_activation(
    history: History,
    state: agent.DomainState.ValueType,
    status: compute.InstanceStatus.ValueType,
    power: compute.PowerState.ValueType,
) -> None:
    instance = _instance(history, compute_events.InstanceActivated(), _observed(state))
    assert (instance.status, instance.power_state) == (status, power)


def test_a_failed_report_without_a_state_changes_no_status(history: History) -> None:
    failed = compute_events.InstanceDomainObserved(host="h1", failure=agent.Failure(reason="X"))
    running = _observed(agent.DOMAIN_STATE_RUNNING)
    instance = _instance(history, running, compute_events.InstanceActivated(), failed)
    assert (instance.status, instance.power_state) == (
        compute.INSTANCE_STATUS_ACTIVE,
        compute.POWER_STATE_RUNNING,
    )


def test_an_error_has_its_cause_and_stays(history: History) -> None:
    fault = compute.Fault(reason="NO_VALID_HOST", remedy="add a host")
    instance = _instance(history, compute_events.InstanceErred(fault=fault), _observed(agent.DOMAIN_STATE_SHUTOFF))
    assert instance.status == compute.INSTANCE_STATUS_ERROR
    assert instance.fault.reason == "NO_VALID_HOST" and instance.fault.HasField("time")


def test_an_error_by_its_hosts_word_ends_by_its_hosts_word(history: History) -> None:
    erred = compute_events.InstanceErred(fault=compute.Fault(reason="DISK_MISSING"), host="h1")
    before = (_observed(agent.DOMAIN_STATE_RUNNING), compute_events.InstanceActivated())
    ill = _instance(history, *before, _observed(agent.DOMAIN_STATE_SHUTOFF), erred)
    assert (ill.status, ill.power_state) == (compute.INSTANCE_STATUS_ERROR, compute.POWER_STATE_SHUTDOWN)
    uid = history.events[0].aggregate_id
    for message in (_observed(agent.DOMAIN_STATE_RUNNING), compute_events.InstanceRecovered(host="h1")):
        history.add("instance", uid, message)
    well = row_of(history, INSTANCE, uid).resource
    assert well.status == compute.INSTANCE_STATUS_ACTIVE and not well.HasField("fault")


def test_is_deleted(history: History) -> None:
    started = compute_events.InstanceTaskStarted(task="instance-delete", task_id="t2")
    assert _instance(history, started).task_state == "instance-delete"
    uid = history.events[0].aggregate_id
    history.add("instance", uid, compute_events.InstanceDeleted())
    row = row_of(history, INSTANCE, uid)
    assert row.deleted
    assert (row.resource.status, row.resource.task_state) == (compute.INSTANCE_STATUS_DELETED, "")


def test_metadata_counts_the_first_time(history: History) -> None:
    fetched = compute_events.InstanceMetadataFetched(path="/x")
    instance = _instance(history, fetched, fetched)
    assert instance.metadata_fetch_time.ToDatetime(BEGIN.tzinfo) == history.events[1].recorded_at


def test_nics_come_and_go(history: History) -> None:
    instance = _instance(
        history,
        compute_events.InstanceNicAttached(nic=compute.InstanceNic(port="a")),
        compute_events.InstanceNicAttached(nic=compute.InstanceNic(port="b")),
        compute_events.InstanceNicDetached(port="a"),
    )
    assert [nic.port for nic in instance.nics] == ["b"]


def test_addresses_are_joined_from_the_ports(history: History) -> None:
    port_id = uuid4()
    created = network_events.PortCreated(
        network_id="n1", mac_address="m", fixed_ips=[network.FixedIp(ip_address="10.0.0.5")]
    )
    attached = compute_events.InstanceNicAttached(nic=compute.InstanceNic(port=str(port_id)))
    _instance(history, attached)
    row = row_of(history, INSTANCE, history.events[0].aggregate_id)
    history.add_all("port", port_id, created, network_events.PortLeaseSeen(ip_address="10.0.0.5"))
    joined = with_addresses(row, {str(port_id): row_of(history, PORT, port_id)})
    [nic] = joined.nics
    assert (nic.network, nic.fixed_ip, nic.leased_ip, nic.seen_ip) == ("n1", "10.0.0.5", "10.0.0.5", "")
    assert nic.HasField("lease_time") and not nic.HasField("seen_time")
    assert joined.etag != row.resource.etag
    assert not row.resource.nics[0].fixed_ip, "the row itself is not changed"
