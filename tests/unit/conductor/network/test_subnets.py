"""Subnets of both families: what may be asked, what may be changed, what hosts are told."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from cirra.network.v1 import events_pb2
from cirra.network.v1 import network_pb2 as pb
from conductor.network.network import Network
from conductor.network.subnet import Subnet
from core.errors import InvalidArgument, NotFound
from tests.unit.conductor.facts import happened, refused_fields, saved

SUBNET = str(uuid4())
ROUTE = pb.HostRoute(destination="10.9.0.0/16", next_hop="10.0.0.9")


def network(mtu: int = 1500, **subnet: Any) -> Network:
    """A network with one subnet, saved."""
    made = Network.create(uuid4(), pb.Network(display_name="net", mtu=mtu), project_id="p1")
    made.add_subnet(UUID(SUBNET), pb.Subnet(**{"cidr": "10.0.0.0/24", **subnet}))
    saved(made)
    return made


def of(made: Network) -> Subnet:
    return made.subnets[SUBNET]


def refused(made: Network, paths: list[str], **wanted: Any) -> set[str]:
    with pytest.raises(InvalidArgument) as caught:
        made.update_subnet(SUBNET, pb.Subnet(**wanted), paths)
    return refused_fields(caught.value)


def not_made(**subnet: Any) -> set[str]:
    with pytest.raises(InvalidArgument) as caught:
        network(**subnet)
    return refused_fields(caught.value)


def test_hosts_are_told_routes_and_whether_there_is_dhcp() -> None:
    spec = network(no_dhcp=True, host_routes=[ROUTE]).spec().subnets[0]
    assert spec.no_dhcp
    assert [(route.destination, route.next_hop) for route in spec.host_routes] == [("10.9.0.0/16", "10.0.0.9")]
    assert spec.dhcp_ip == "10.0.0.2", "metadata answers there all the same"


@pytest.mark.parametrize(
    ("destination", "next_hop", "field"),
    [
        ("10.9.0.1/16", "10.0.0.9", "destination"),  # host bits
        ("x", "10.0.0.9", "destination"),
        ("fd00::/64", "10.0.0.9", "destination"),  # another family
        ("0.0.0.0/0", "10.0.0.9", "destination"),  # the gateway's
        ("169.254.169.254/32", "10.0.0.9", "destination"),  # metadata's
        ("10.9.0.0/16", "10.0.1.9", "next_hop"),  # no neighbour
        ("10.9.0.0/16", "fd00::1", "next_hop"),
        ("10.9.0.0/16", "", "next_hop"),
    ],
)
def test_a_route_goes_to_a_range_by_a_neighbour(destination: str, next_hop: str, field: str) -> None:
    route = pb.HostRoute(destination=destination, next_hop=next_hop)
    assert not_made(host_routes=[route]) == {f"subnet.host_routes[0].{field}"}


def test_routes_are_few_and_different() -> None:
    assert not_made(host_routes=[ROUTE, ROUTE]) == {"subnet.host_routes[1].destination"}
    many = [pb.HostRoute(destination=f"10.9.{n}.0/24", next_hop="10.0.0.9") for n in range(21)]
    assert not_made(host_routes=many) == {"subnet.host_routes"}


def test_without_a_gateway_a_route_may_go_everywhere() -> None:
    route = pb.HostRoute(destination="0.0.0.0/0", next_hop="10.0.0.9")
    assert of(network(no_gateway=True, host_routes=[route])).host_routes == (("0.0.0.0/0", "10.0.0.9"),)


def test_guests_make_addresses_of_an_ipv6_subnet_themselves() -> None:
    subnet = of(network(cidr="fd00:1::/64"))
    assert subnet.slaac and subnet.pools == ()
    assert (str(subnet.gateway), str(subnet.dhcp)) == ("fd00:1::1", "fd00:1::2")


def test_an_ipv6_subnet_without_slaac_has_pools() -> None:
    subnet = of(network(cidr="fd00:1::/120", no_dhcp=True))
    assert not subnet.slaac
    assert [str(pool) for pool in subnet.pools] == ["fd00:1::3-fd00:1::ff"]


def test_what_slaac_can_t_have() -> None:
    pool = pb.AllocationPool(start="fd00:1::10", end="fd00:1::20")
    assert not_made(cidr="fd00:1::/64", allocation_pools=[pool]) == {"subnet.allocation_pools"}
    route = pb.HostRoute(destination="fd00:9::/64", next_hop="fd00:1::9")
    assert not_made(cidr="fd00:1::/64", host_routes=[route]) == {"subnet.host_routes"}


def test_ipv6_wants_an_mtu_of_1280() -> None:
    assert not_made(mtu=1279, cidr="fd00:1::/64") == {"subnet.cidr"}
    made = network(mtu=1280, cidr="fd00:1::/64")
    with pytest.raises(InvalidArgument):
        made.update(pb.Network(mtu=1279), ["mtu"])


def test_an_update_changes_what_its_mask_names() -> None:
    made = network(display_name="old", dns_nameservers=["9.9.9.9"])
    wanted = pb.Subnet(
        display_name="new",
        dns_nameservers=["1.1.1.1"],
        host_routes=[ROUTE],
        no_dhcp=True,
        allocation_pools=[pb.AllocationPool(start="10.0.0.100", end="10.0.0.110")],
    )
    made.update_subnet(SUBNET, wanted, ["display_name", "host_routes", "no_dhcp", "allocation_pools"])
    subnet = of(made)
    assert (subnet.display_name, subnet.no_dhcp) == ("new", True)
    assert [str(pool) for pool in subnet.pools] == ["10.0.0.100-10.0.0.110"]
    assert subnet.host_routes == (("10.9.0.0/16", "10.0.0.9"),)
    assert subnet.dns_nameservers == ("9.9.9.9",), "the mask does not name them"
    assert subnet.version == made.version


def test_what_is_so_already_is_no_event() -> None:
    made = network(dns_nameservers=["9.9.9.9"], host_routes=[ROUTE])
    same = pb.Subnet(dns_nameservers=["9.9.9.9"], host_routes=[ROUTE])
    made.update_subnet(SUBNET, same, ["display_name", "dns_nameservers", "host_routes", "no_dhcp", "allocation_pools"])
    made.update(pb.Network(display_name="net", mtu=1500), ["display_name", "mtu"])
    assert happened(made) == []


def test_bad_changes_are_named() -> None:
    made = network()
    bad = pb.AllocationPool(start="10.0.0.1", end="10.0.0.9")
    assert refused(made, ["allocation_pools"], allocation_pools=[bad]) == {"subnet.allocation_pools[0]"}
    assert refused(made, ["dns_nameservers"], dns_nameservers=["x"]) == {"subnet.dns_nameservers[0]"}
    assert refused(network(cidr="fd00:1::/64"), ["no_dhcp"], no_dhcp=True) == {"subnet.no_dhcp"}
    with pytest.raises(NotFound):
        made.update_subnet(str(uuid4()), pb.Subnet(), ["no_dhcp"])


def test_a_network_is_renamed_and_gets_another_mtu() -> None:
    made = network()
    before = made.spec().generation
    made.update(pb.Network(display_name="lan", mtu=1400), ["display_name", "mtu"])
    assert (made.display_name, made.spec().mtu) == ("lan", 1400)
    assert made.spec().generation > before
    [event] = happened(made)
    assert isinstance(event, events_pb2.NetworkUpdated) and list(event.update_mask.paths) == ["display_name", "mtu"]
