from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from cirra.network.v1 import events_pb2
from cirra.network.v1 import network_pb2 as pb
from conductor.network.network import Network
from core.errors import InvalidArgument, NotFound
from core.eventlog.types import CounterAdd, UniqueClaim, UniqueRelease
from core.ids import bridge_device
from tests.unit.conductor.facts import constrained, happened, refused_fields, saved

NETWORK, SUBNET = uuid4(), uuid4()


def make(**fields: object) -> Network:
    return Network.create(NETWORK, pb.Network(display_name="net", **fields), project_id="p1")  # type: ignore[arg-type]


def with_subnet(subnet_id: UUID = SUBNET, **fields: object) -> Network:
    network = make(**fields)
    network.add_subnet(subnet_id, pb.Subnet(cidr="192.168.1.0/24", dns_nameservers=["9.9.9.9"]))
    return network


def test_a_network_is_flat_with_an_mtu_of_1500_unless_told() -> None:
    network = make()
    assert (network.type, network.mtu, network.physical_network) == (pb.NETWORK_TYPE_FLAT, 1500, "")
    assert network.resource_name == f"projects/p1/networks/{NETWORK}"


def test_bad_fields_are_all_named() -> None:
    with pytest.raises(InvalidArgument) as caught:
        Network.create(NETWORK, pb.Network(mtu=100, physical_network="Phys Net!", type=7), project_id="p1")  # type: ignore[arg-type]
    assert refused_fields(caught.value) == {
        "network.display_name",
        "network.mtu",
        "network.physical_network",
        "network.type",
    }


def test_it_counts_against_the_quota_and_takes_its_segment() -> None:
    network = make(physical_network="physnet1")
    taken = constrained(network)
    assert CounterAdd("quota/networks", "p1", 1) in taken
    assert UniqueClaim("physical-network", "physnet1", str(NETWORK)) in taken
    saved(network)
    network.delete()
    given_back = constrained(network)
    assert CounterAdd("quota/networks", "p1", -1) in given_back
    assert UniqueRelease("physical-network", "physnet1", str(NETWORK)) in given_back


def test_a_subnet_claims_gateway_and_dhcp() -> None:
    network = make()
    saved(network)
    network.add_subnet(SUBNET, pb.Subnet(cidr="192.168.1.0/24"))
    assert constrained(network) == [
        UniqueClaim("subnet", str(SUBNET), str(NETWORK)),
        UniqueClaim(f"address/{SUBNET}", "192.168.1.2", str(SUBNET)),
        UniqueClaim(f"address/{SUBNET}", "192.168.1.1", str(SUBNET)),
    ]


def test_subnets_of_one_network_don_t_overlap() -> None:
    network = with_subnet()
    with pytest.raises(InvalidArgument, match=r"overlaps 192\.168\.1\.0/24"):
        network.add_subnet(uuid4(), pb.Subnet(cidr="192.168.0.0/16"))


def test_what_hosts_are_told_has_every_subnet_and_rises_with_each_change() -> None:
    network = with_subnet(mtu=1450)
    spec = network.spec()
    assert (spec.bridge, spec.mtu, spec.dns_domain) == (bridge_device(NETWORK), 1450, "novalocal")
    [subnet] = spec.subnets
    assert (subnet.cidr, subnet.gateway_ip, subnet.dhcp_ip) == ("192.168.1.0/24", "192.168.1.1", "192.168.1.2")
    assert list(subnet.dns_nameservers) == ["9.9.9.9"]
    network.add_subnet(uuid4(), pb.Subnet(cidr="10.0.0.0/24"))
    assert network.spec().generation > spec.generation


def test_a_subnet_that_goes_gives_its_addresses_back() -> None:
    network = with_subnet()
    saved(network)
    network.delete_subnet(str(SUBNET))
    released = [found for found in constrained(network) if isinstance(found, UniqueRelease)]
    assert {(found.scope, found.key) for found in released} == {
        ("subnet", str(SUBNET)),
        (f"address/{SUBNET}", "192.168.1.1"),
        (f"address/{SUBNET}", "192.168.1.2"),
    }
    with pytest.raises(NotFound):
        network.delete_subnet(str(SUBNET))


def test_a_network_takes_its_subnets_along_and_goes_once() -> None:
    network = with_subnet()
    saved(network)
    network.delete()
    assert [type(message) for message in happened(network)] == [
        events_pb2.SubnetDeleted,
        events_pb2.NetworkDeleted,
    ]
    with pytest.raises(NotFound):
        network.delete()
    with pytest.raises(NotFound):
        network.add_subnet(uuid4(), pb.Subnet(cidr="10.0.0.0/24"))


def test_an_external_network_is_told_to_hosts_and_plugged_into_by_its_own_project() -> None:
    assert make(external=True).spec().external and not make().spec().external
    assert not make(external=True).usable_by("p2")


def test_a_shared_network_is_usable_by_all() -> None:
    assert make(shared=True).usable_by("p2")
    assert not make().usable_by("p2")
    assert make().usable_by("p1")
