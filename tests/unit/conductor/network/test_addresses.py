from __future__ import annotations

import random
from collections import Counter
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cirra.network.v1 import network_pb2 as pb
from conductor.network.addresses import Pool, choose_address, plan_subnet
from core.errors import InvalidArgument
from tests.unit.conductor.facts import refused_fields


def pool(first: str, last: str) -> pb.AllocationPool:
    return pb.AllocationPool(start=first, end=last)


def ip(text: str) -> IPv4Address:
    return IPv4Address(text)


def refused(subnet: pb.Subnet, *siblings: str) -> set[str]:
    with pytest.raises(InvalidArgument) as caught:
        plan_subnet(subnet, [IPv4Network(sibling) for sibling in siblings])
    return refused_fields(caught.value)


def test_a_cidr_alone_is_filled_up_with_gateway_dhcp_and_the_rest_as_pool() -> None:
    plan = plan_subnet(pb.Subnet(cidr="192.168.1.0/24"))
    assert (plan.gateway, plan.dhcp) == (ip("192.168.1.1"), ip("192.168.1.2"))
    assert plan.pools == (Pool(ip("192.168.1.3"), ip("192.168.1.254")),)


def test_dhcp_takes_the_first_address_of_given_pools() -> None:
    plan = plan_subnet(
        pb.Subnet(
            cidr="192.168.1.0/24",
            allocation_pools=[pool("192.168.1.200", "192.168.1.210"), pool("192.168.1.100", "192.168.1.110")],
        )
    )
    assert plan.dhcp == ip("192.168.1.100")
    assert [str(found) for found in plan.pools] == ["192.168.1.100-192.168.1.110", "192.168.1.200-192.168.1.210"]


def test_default_pools_leave_out_gateway_and_dhcp_wherever_they_are() -> None:
    plan = plan_subnet(pb.Subnet(cidr="10.0.0.0/28", gateway_ip="10.0.0.14", dhcp_ip="10.0.0.7"))
    assert [str(found) for found in plan.pools] == ["10.0.0.1-10.0.0.6", "10.0.0.8-10.0.0.13"]


def test_without_gateway_its_address_is_free() -> None:
    plan = plan_subnet(pb.Subnet(cidr="10.0.0.0/29", no_gateway=True))
    assert plan.gateway is None
    assert (plan.dhcp, plan.pools) == (ip("10.0.0.1"), (Pool(ip("10.0.0.2"), ip("10.0.0.6")),))


@pytest.mark.parametrize(
    ("cidr", "reason"),
    [
        ("", "no range"),
        ("192.168.1.0", "/32 is out of range"),
        ("192.168.1.7/24", "canonical form: give 192.168.1.0/24"),
        ("192.168.1.0/255.255.255.0", "canonical form"),
        ("2001:db8::/96", "guests make addresses of /64 only"),
        ("fe80::/64", "guests can't use"),
        ("2001:db8::/48", "/48 is out of range"),
        ("2001:0db8::/64", "canonical form: give 2001:db8::/64"),
        ("10.0.0.0/31", "/31 is out of range"),
        ("127.1.0.0/16", "127.0.0.0/8"),
        ("169.254.0.0/16", "guests can't use"),
        ("224.1.0.0/16", "guests can't use"),
        ("10.0.0.0/30", "no address is left"),
    ],
)
def test_bad_ranges_name_the_field_and_the_remedy(cidr: str, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=reason) as caught:
        plan_subnet(pb.Subnet(cidr=cidr))
    assert refused_fields(caught.value) == {"subnet.cidr"}


@pytest.mark.parametrize("cidr", ["10.0.0.0/24", "10.0.0.0/16", "10.0.0.128/25"])
def test_subnets_of_a_network_never_overlap(cidr: str) -> None:
    assert refused(pb.Subnet(cidr=cidr), "10.0.0.0/24") == {"subnet.cidr"}


def test_a_neighbour_is_no_overlap() -> None:
    assert plan_subnet(pb.Subnet(cidr="10.0.1.0/24"), [IPv4Network("10.0.0.0/24")]).cidr == IPv4Network("10.0.1.0/24")


def test_every_bad_pool_is_named_at_once() -> None:
    assert refused(
        pb.Subnet(
            cidr="10.0.0.0/24",
            gateway_ip="10.0.0.5",
            dhcp_ip="10.0.1.1",
            allocation_pools=[
                pool("10.0.0.10", "10.0.0.20"),
                pool("10.0.0.20", "10.0.0.30"),  # overlaps the first
                pool("10.0.0.1", "10.0.0.9"),  # holds the gateway
                pool("10.0.0.50", "10.0.0.40"),  # backwards
                pool("10.0.0.250", "10.0.1.5"),  # out of the range
                pool("10.0.0.0", "x"),  # no host address, no address
            ],
        )
    ) == {
        "subnet.dhcp_ip",
        "subnet.allocation_pools[1]",
        "subnet.allocation_pools[2]",
        "subnet.allocation_pools[3].end",
        "subnet.allocation_pools[4].end",
        "subnet.allocation_pools[5].start",
        "subnet.allocation_pools[5].end",
    }


def test_a_gateway_and_no_gateway_contradict() -> None:
    assert refused(pb.Subnet(cidr="10.0.0.0/24", gateway_ip="10.0.0.1", no_gateway=True)) == {"subnet.gateway_ip"}


def test_gateway_and_dhcp_are_two() -> None:
    assert refused(pb.Subnet(cidr="10.0.0.0/24", gateway_ip="10.0.0.9", dhcp_ip="10.0.0.9")) == {"subnet.dhcp_ip"}


def test_a_pool_of_the_dhcp_server_alone_is_too_small() -> None:
    subnet = pb.Subnet(cidr="10.0.0.0/24", allocation_pools=[pool("10.0.0.9", "10.0.0.9")])
    assert refused(subnet) == {"subnet.allocation_pools"}


prefixes = st.integers(min_value=16, max_value=29)


@given(prefix=prefixes, base=st.integers(0, 2**24 - 1), without_gateway=st.booleans())
def test_a_plan_covers_all_host_addresses_once(prefix: int, base: int, without_gateway: bool) -> None:
    cidr = IPv4Network((int(ip("10.0.0.0")) | base & ~(2 ** (32 - prefix) - 1), prefix))
    plan = plan_subnet(pb.Subnet(cidr=str(cidr), no_gateway=without_gateway))
    reserved = {plan.dhcp} | ({plan.gateway} if plan.gateway else set())
    assert sum(found.size for found in plan.pools) + len(reserved) == cidr.num_addresses - 2
    assert not any(address in found for found in plan.pools for address in reserved)
    assert not any(a.overlaps(b) for a in plan.pools for b in plan.pools if a is not b)


@st.composite
def pools_and_taken(draw: st.DrawFn) -> tuple[list[Pool], set[IPv4Address]]:
    """Up to three small pools in order, and addresses in and around them."""
    bounds = sorted(draw(st.sets(st.integers(0, 40), min_size=2, max_size=6)))
    start = ip("10.0.0.0")
    pools = [Pool(start + first, start + last) for first, last in zip(bounds[::2], bounds[1::2], strict=False)]
    taken = {start + offset for offset in draw(st.sets(st.integers(0, 45)))}
    return pools, taken


@given(case=pools_and_taken(), seed=st.integers())
def test_what_is_chosen_is_free_and_none_means_exhausted(case: tuple[list[Pool], set[IPv4Address]], seed: int) -> None:
    pools, taken = case
    free = {IPv4Address(number) for found in pools for number in range(int(found.first), int(found.last) + 1)} - taken
    chosen = choose_address(pools, taken, random.Random(seed))
    assert (chosen in free) if free else chosen is None


def test_each_free_address_is_as_likely_as_the_others() -> None:
    pools = [Pool(ip("10.0.0.1"), ip("10.0.0.4")), Pool(ip("10.0.0.9"), ip("10.0.0.10"))]
    taken = [ip("10.0.0.2"), ip("10.0.0.9")]
    rng = random.Random(7)
    found = Counter(str(choose_address(pools, taken, rng)) for _ in range(4000))
    assert set(found) == {"10.0.0.1", "10.0.0.3", "10.0.0.4", "10.0.0.10"}
    assert min(found.values()) > 850


def test_a_large_pool_costs_no_more_than_what_is_taken() -> None:
    everything = [Pool(ip("10.0.0.1"), ip("10.255.255.254"))]
    assert choose_address(everything, [], random.Random(1)) in everything[0]
