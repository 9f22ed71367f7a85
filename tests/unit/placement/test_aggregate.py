"""Aggregates, and what hosts have of them: zone and allocation ratios."""

from __future__ import annotations

import pytest

from cirra.placement.v1 import placement_pb2 as public
from core.errors import FailedPrecondition, InvalidArgument, NotFound
from core.ids import uuid7
from placement.aggregates.aggregate import HostAggregate
from placement.hosts.capacity import Ratios
from placement.hosts.host import Host

CLOUD = Ratios(vcpus=16.0, memory_mib=1.5, disk_gib=1.0)


def aggregate(name: str = "rack", zone: str = "", **metadata: str) -> HostAggregate:
    made = HostAggregate.new(uuid7())
    made.create(name, zone, metadata)
    return made


def host(zone: str = "nova", **inventory: float) -> Host:
    made = Host.new(uuid7())
    made.enrol("host-1", zone)
    made.set_inventory(public.Inventory(vcpus=8, memory_mib=1000, disk_gib=100, **inventory), CLOUD)  # type: ignore[arg-type]
    return made


def topics(one: Host | HostAggregate) -> list[str]:
    return [type(event).__name__ for event in one.pending_events]


def test_a_host_takes_the_zone_of_its_aggregate_and_gets_its_own_back() -> None:
    it, north, plain = host(), aggregate("north", "north"), aggregate("plain")
    it.join(plain.membership, CLOUD)
    assert it.availability_zone == "nova"
    it.join(north.membership, CLOUD)
    it.join(north.membership, CLOUD)
    assert it.availability_zone == "north"
    with pytest.raises(FailedPrecondition, match="in zone north by aggregate north"):
        it.join(aggregate("south", "south").membership, CLOUD)
    it.enrol("host-1", "lab")
    assert it.availability_zone == "north"
    it.leave(str(north.id), CLOUD)
    it.leave(str(north.id), CLOUD)
    assert it.availability_zone == "lab"
    assert topics(it)[2:] == [
        "HostAggregatesChanged", "HostAggregatesChanged", "HostEnrolled", "HostAggregatesChanged",
        "HostAggregatesChanged",
    ]  # fmt: skip


def test_a_hosts_own_ratio_goes_before_those_of_aggregates_and_those_before_the_clouds() -> None:
    it = host()
    assert it.ratios == CLOUD
    it.join(aggregate("a", cpu_allocation_ratio="8", ram_allocation_ratio="1.2").membership, CLOUD)
    it.join(aggregate("b", cpu_allocation_ratio="2").membership, CLOUD)
    assert it.ratios == Ratios(vcpus=2.0, memory_mib=1.2, disk_gib=1.0)
    own = public.Inventory(vcpus=8, memory_mib=1000, disk_gib=100, vcpu_allocation_ratio=1.0, reserved_vcpus=2)
    it.set_inventory(own, CLOUD)
    assert it.ratios == Ratios(vcpus=1.0, memory_mib=1.2, disk_gib=1.0)
    last = it.pending_events[-1].data  # type: ignore[attr-defined]
    assert (last.capacity.vcpus, last.capacity.memory_mib, last.capacity.disk_gib) == (6, 1200, 100)


def test_the_same_again_is_no_event() -> None:
    it, rack = host(), aggregate()
    it.set_inventory(it.inventory, CLOUD)
    rack.create("another", "", {})
    rack.change("rack", "", {})
    rack.add_host("host-1")
    rack.add_host("host-1")
    assert topics(it) == ["HostEnrolled", "HostInventoryChanged"]
    assert topics(rack) == ["AggregateCreated", "AggregateHostAdded"]


def test_an_aggregate_goes_when_it_is_empty() -> None:
    rack = aggregate()
    rack.add_host("host-1")
    with pytest.raises(FailedPrecondition, match="has 1 hosts"):
        rack.delete()
    with pytest.raises(InvalidArgument, match="host-2"):
        rack.remove_host("host-2")
    rack.remove_host("host-1")
    rack.delete()
    for change in (rack.delete, lambda: rack.add_host("host-1"), lambda: rack.change("x", "", {})):
        with pytest.raises(NotFound):
            change()


@pytest.mark.parametrize("ratio", ["many", "0", "-1", "nan", "1e9"])
def test_ratios_that_are_none(ratio: str) -> None:
    with pytest.raises(InvalidArgument, match="cpu_allocation_ratio"):
        aggregate(cpu_allocation_ratio=ratio)
