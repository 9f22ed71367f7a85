"""What a host is on an external network."""

from __future__ import annotations

from cirra.agent.v1.desired_pb2 import Failure
from conductor import references
from conductor.network.host_gateway import HostAddress, HostGateway
from core.eventlog.types import CounterAdd, UniqueClaim, UniqueRelease
from core.ids import host_gateway_aggregate_id
from tests.unit.conductor.facts import constrained, happened, saved

MAC = "fa:16:3e:00:00:01"
ADDRESS = HostAddress("pool", "203.0.113.50", 24)
EXHAUSTED = Failure(reason="EXHAUSTED", message="none is free")


def names(gateway: HostGateway) -> list[str]:
    return [message.DESCRIPTOR.name for message in happened(gateway)]


def test_everyone_knows_its_id() -> None:
    assert HostGateway.of("h1", "ext").id == host_gateway_aggregate_id("h1", "ext")
    assert host_gateway_aggregate_id("h1", "ext") != host_gateway_aggregate_id("h2", "ext")


def test_its_addresses_are_claimed_and_given_back() -> None:
    gateway = HostGateway.of("h1", "ext")
    me = str(gateway.id)
    gateway.open(MAC)
    gateway.allocate(ADDRESS)
    assert constrained(gateway) == [
        CounterAdd(references.NETWORK_HOST_GATEWAYS, "ext", 1),
        UniqueClaim("mac/ext", MAC, me),
        CounterAdd(references.SUBNET_HOST_ADDRESSES, "pool", 1),
        UniqueClaim("address/pool", "203.0.113.50", me),
    ]
    saved(gateway)
    gateway.open("fa:16:3e:00:00:02")
    gateway.allocate(HostAddress("pool", "203.0.113.51", 24))
    assert happened(gateway) == [], "it has both"
    gateway.close()
    assert constrained(gateway) == [
        CounterAdd(references.SUBNET_HOST_ADDRESSES, "pool", -1),
        UniqueRelease("address/pool", "203.0.113.50", me),
        CounterAdd(references.NETWORK_HOST_GATEWAYS, "ext", -1),
        UniqueRelease("mac/ext", MAC, me),
    ]
    saved(gateway)
    gateway.close()
    assert happened(gateway) == []
    gateway.open(MAC)
    assert gateway.mac_address == MAC, "and may open again"


def test_a_refusal_is_told_once_and_ends_with_an_address_or_with_the_need() -> None:
    gateway = HostGateway.of("h1", "ext")
    gateway.open(MAC)
    gateway.refuse(EXHAUSTED)
    gateway.refuse(EXHAUSTED)
    assert names(gateway) == ["HostGatewayOpened", "HostGatewayAddressRefused"]
    gateway.allocate(ADDRESS)
    assert gateway.refusal == "" and gateway.address == ADDRESS
    gateway.release()
    gateway.release()
    gateway.refuse(EXHAUSTED)
    saved(gateway)
    gateway.close()
    assert names(gateway) == ["HostGatewayAddressReleased", "HostGatewayClosed"]
    assert constrained(gateway) == [
        CounterAdd(references.NETWORK_HOST_GATEWAYS, "ext", -1),
        UniqueRelease("mac/ext", MAC, str(gateway.id)),
    ], "there was no address to give back"
