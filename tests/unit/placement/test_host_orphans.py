"""What is on a host and nobody's: each agent's whole list, and an event only when it changes."""

from __future__ import annotations

from cirra.placement.v1.events_pb2 import HostOrphansChanged
from cirra.placement.v1.placement_pb2 import HostOrphan
from core.ids import host_aggregate_id
from placement.hosts.host import Host
from tests.unit.conductor.facts import happened, saved


def orphan(object_id: str) -> HostOrphan:
    return HostOrphan(agent="compute", kind="domain", object_id=object_id)


def test_only_another_list_is_news() -> None:
    host = Host.new(host_aggregate_id("h1"))
    host.enrol("h1", "nova")
    saved(host)
    host.set_orphans("compute", [])
    assert happened(host) == []
    host.set_orphans("compute", [orphan("a")])
    host.set_orphans("compute", [orphan("a")])
    host.set_orphans("net", [])
    assert happened(host) == [HostOrphansChanged(host="h1", agent="compute", orphans=[orphan("a")])]
    saved(host)
    host.set_orphans("compute", [])
    assert happened(host) == [HostOrphansChanged(host="h1", agent="compute")]
