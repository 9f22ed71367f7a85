"""Hosts, from their events and those of claims."""

from __future__ import annotations

from uuid import uuid4

from api_gateway.views.placement import HOST
from cirra.placement.v1 import events_pb2 as placement_events
from cirra.placement.v1 import placement_pb2 as placement
from cirra.placement.v1 import scheduling_pb2 as scheduling
from core.ids import claim_aggregate_id, host_aggregate_id
from tests.unit.api_gateway.history import BEGIN, History, row_of


def test_a_host_s_usage_is_the_sum_of_its_claims(history: History) -> None:
    uid = host_aggregate_id("h1")
    resources = scheduling.Resources(vcpus=2, memory_mib=512, disk_gib=5)
    history.add("host", uid, placement_events.HostEnrolled(host="h1", availability_zone="z"))
    claims = [claim_aggregate_id(uuid4()) for _ in range(2)]
    for claim in claims:
        history.add("claim", claim, placement_events.ClaimMade(host="h1", resources=resources))
    history.add("claim", claims[0], placement_events.ClaimReleased(host="h1", resources=resources))
    history.add("claim", claims[0], placement_events.ClaimMade(host="unknown", resources=resources))
    host = row_of(history, HOST, uid).resource
    assert host.usage == placement.Usage(vcpus=2, memory_mib=512, disk_gib=5, instances=1)
    assert (host.name, host.state, host.enabled) == ("hosts/h1", placement.HOST_STATE_ENROLLED, True)


def test_faults_are_each_agents_list_and_one_for_another_reason_is_another(history: History) -> None:
    uid = host_aggregate_id("h1")

    def told(agent_name: str, **reasons: str) -> placement_events.HostFaultsChanged:
        faults = [
            placement.HostFault(agent=agent_name, kind="router", object_id=each, reason=reason)
            for each, reason in reasons.items()
        ]
        return placement_events.HostFaultsChanged(host="h1", agent=agent_name, faults=faults)

    history.add_all(
        "host",
        uid,
        placement_events.HostEnrolled(host="h1"),
        told("net", a="BROKEN", b="BROKEN"),
        told("net", a="BROKEN", b="GONE"),
        told("block", c="FULL"),
    )
    found = {
        each.object_id: (each.reason, each.see_time.ToDatetime(BEGIN.tzinfo))
        for each in row_of(history, HOST, uid).resource.faults
    }
    times = [event.recorded_at for event in history.events]
    assert found == {"a": ("BROKEN", times[1]), "b": ("GONE", times[2]), "c": ("FULL", times[3])}


def test_orphans_are_each_agents_list_and_keep_the_time_when_they_were_seen_first(history: History) -> None:
    uid = host_aggregate_id("h1")

    def told(agent_name: str, *ids: str) -> placement_events.HostOrphansChanged:
        orphans = [placement.HostOrphan(agent=agent_name, kind="domain", object_id=each) for each in ids]
        return placement_events.HostOrphansChanged(host="h1", agent=agent_name, orphans=orphans)

    created = placement_events.HostEnrolled(host="h1")
    history.add_all("host", uid, created, told("net", "n"), told("compute", "a"), told("compute", "b", "a"))
    found = {
        each.object_id: each.see_time.ToDatetime(BEGIN.tzinfo) for each in row_of(history, HOST, uid).resource.orphans
    }
    times = [event.recorded_at for event in history.events]
    assert found == {"n": times[1], "a": times[2], "b": times[3]}
    history.add("host", uid, told("compute"))
    assert [each.object_id for each in row_of(history, HOST, uid).resource.orphans] == ["n"]


def test_a_host_goes_up_and_down(history: History) -> None:
    uid = host_aggregate_id("h1")
    history.add_all(
        "host",
        uid,
        placement_events.HostEnrolled(host="h1"),
        placement_events.HostUp(host="h1", boot_ids={"compute": "b1", "net": "b1"}),
        placement_events.HostSuspected(host="h1", silent_agents=["net"]),
        placement_events.HostDown(host="h1", silent_agents=["net"]),
        placement_events.HostDisabled(host="h1", reason="disk"),
    )
    host = row_of(history, HOST, uid).resource
    assert host.state == placement.HOST_STATE_DOWN
    assert {status.agent: status.up for status in host.agents} == {"compute": True, "net": False}
    assert (host.enabled, host.disabled_reason) == (False, "disk")
    history.add_all(
        "host", uid, placement_events.HostEnabled(host="h1"), placement_events.HostUp(host="h1", boot_ids={"net": "b2"})
    )
    host = row_of(history, HOST, uid).resource
    assert (host.state, host.enabled, host.disabled_reason) == (placement.HOST_STATE_UP, True, "")
    assert [(status.agent, status.boot_id) for status in host.agents] == [("compute", "b1"), ("net", "b2")]
