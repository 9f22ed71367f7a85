"""What is not as it shall be on a host: each agent's whole list, and an event only when that changes."""

from __future__ import annotations

from cirra.agent.v1 import desired_pb2 as agent
from cirra.placement.v1.events_pb2 import HostFaultsChanged
from cirra.placement.v1.placement_pb2 import HostFault, Inventory
from core.ids import host_aggregate_id
from placement.hosts.host import Host
from placement.hosts.inventory import FACTS, merged
from tests.unit.conductor.facts import happened, saved


def fault(object_id: str, reason: str = "BROKEN") -> HostFault:
    return HostFault(agent="net", kind="peer", object_id=object_id, reason=reason)


def test_only_another_list_is_news() -> None:
    host = Host.new(host_aggregate_id("h1"))
    host.enrol("h1", "nova")
    saved(host)
    host.set_faults("net", [])
    assert happened(host) == []
    host.set_faults("net", [fault("a")])
    host.set_faults("net", [fault("a")])
    assert happened(host) == [HostFaultsChanged(host="h1", agent="net", faults=[fault("a")])]
    saved(host)
    host.set_faults("net", [fault("a", "WORSE")])
    host.set_faults("net", [])
    assert happened(host)[-1] == HostFaultsChanged(host="h1", agent="net")
    assert len(happened(host)) == 2


def test_faults_are_placement_s_to_hear() -> None:
    assert "FaultsObserved" in FACTS


def test_where_a_host_takes_in_tunnels_is_the_net_agent_s_to_say() -> None:
    told = agent.InventoryObserved(tunnel_address="192.0.2.1")
    assert merged(Inventory(), "net", told).tunnel_address == "192.0.2.1"
    assert merged(Inventory(tunnel_address="192.0.2.7"), "compute", told).tunnel_address == "192.0.2.7"
