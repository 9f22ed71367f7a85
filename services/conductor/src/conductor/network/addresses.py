"""The arithmetic of subnets: which addresses there are, which are spoken for, which is given next. Pure.

Both families by the same rules, but for a subnet with SLAAC: there addresses follow from MAC addresses (RFC 4862), so
that it has no pools.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

from cirra.network.v1 import network_pb2 as public
from conductor.fields import Fields

Address: TypeAlias = IPv4Address | IPv6Address
Range: TypeAlias = IPv4Network | IPv6Network

MAX_POOLS = 16
MAX_NAMESERVERS = 8
MAX_HOST_ROUTES = 20
SLAAC_PREFIX = 64
METADATA = IPv4Network("169.254.169.254/32")


@dataclass(frozen=True, slots=True)
class _Family:
    """`longest`: a subnet must hold its DHCP server and one guest beside the addresses that no host has."""

    title: str
    example: str
    shortest: int
    longest: int
    unusable: tuple[Range, ...]


def _ranges(*cidrs: str) -> tuple[Range, ...]:
    return tuple(ip_network(cidr) for cidr in cidrs)


_FAMILIES = {
    4: _Family(
        "IPv4",
        "192.168.1.0/24",
        8,
        30,
        _ranges(
            "0.0.0.0/8",  # "this network" (RFC 791)
            "127.0.0.0/8",  # loopback
            "169.254.0.0/16",  # link-local (RFC 3927); metadata is there
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved
        ),
    ),
    6: _Family(
        "IPv6",
        "fd00:1:2:3::/64",
        SLAAC_PREFIX,
        126,
        _ranges(
            "::/8",  # unspecified, loopback, IPv4-mapped (RFC 4291)
            "fe80::/10",  # link-local; metadata is there
            "ff00::/8",  # multicast
        ),
    ),
}


@dataclass(frozen=True, slots=True)
class Pool:
    """The addresses from `first` to `last`, both included."""

    first: Address
    last: Address

    @property
    def size(self) -> int:
        return int(self.last) - int(self.first) + 1

    def __contains__(self, address: object) -> bool:
        if not isinstance(address, IPv4Address | IPv6Address) or address.version != self.first.version:
            return False
        return int(self.first) <= int(address) <= int(self.last)

    def overlaps(self, other: Pool) -> bool:
        """Of the same family."""
        return int(self.first) <= int(other.last) and int(other.first) <= int(self.last)

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


@dataclass(frozen=True, slots=True)
class SubnetPlan:
    """A subnet's addresses. `pools` may hold `dhcp`, which is nevertheless given to nobody; never `gateway`.

    `dhcp`: the address of DHCP, or of router advertisements, and of metadata on every host.
    """

    cidr: Range
    gateway: Address | None
    dhcp: Address
    pools: tuple[Pool, ...]


def is_slaac(cidr: Range, *, no_dhcp: bool) -> bool:
    """Whether guests make their addresses themselves."""
    return cidr.version == 6 and not no_dhcp


def plan_subnet(wanted: public.Subnet, siblings: Iterable[Range] = ()) -> SubnetPlan:
    """The plan of a subnet as asked for, its gaps filled. `siblings`: the other subnets of the network.

    Without a gateway given, the first host address (unless `no_gateway`); without an address for DHCP, the first of
    the pools; without pools, all host addresses but these two. Raises InvalidArgument, with every violation.
    """
    fields = Fields("subnet.")
    cidr = _cidr(fields, wanted.cidr, siblings)
    fields.check()
    assert cidr is not None
    slaac = is_slaac(cidr, no_dhcp=wanted.no_dhcp)
    if slaac and cidr.prefixlen != SLAAC_PREFIX:
        fields.refuse("cidr", f"guests make addresses of /{SLAAC_PREFIX} only: give one, or set no_dhcp")
    gateway = _gateway(fields, wanted, cidr)
    pools = _pools(fields, wanted.allocation_pools, cidr, gateway, slaac)
    given_dhcp = _host_address(fields, "dhcp_ip", wanted.dhcp_ip, cidr) if wanted.dhcp_ip else None
    if given_dhcp is not None and given_dhcp == gateway:
        fields.refuse("dhcp_ip", f"{given_dhcp} is the gateway's: give another, or none")
    fields.check()
    dhcp = given_dhcp or (pools[0].first if pools else _first_host(cidr, but=gateway))
    if not slaac:
        pools = _filled(fields, wanted, cidr, gateway, dhcp, pools)
    return SubnetPlan(cidr, gateway, dhcp, pools)


def plan_pools(wanted: public.Subnet, plan: SubnetPlan, *, slaac: bool) -> tuple[Pool, ...]:
    """Other pools of a subnet that is there: those in `wanted`, or the default. What was given out stays given out.

    Raises InvalidArgument.
    """
    fields = Fields("subnet.")
    pools = _pools(fields, wanted.allocation_pools, plan.cidr, plan.gateway, slaac)
    fields.check()
    return pools if slaac else _filled(fields, wanted, plan.cidr, plan.gateway, plan.dhcp, pools)


def _filled(
    fields: Fields,
    wanted: public.Subnet,
    cidr: Range,
    gateway: Address | None,
    dhcp: Address,
    pools: tuple[Pool, ...],
) -> tuple[Pool, ...]:
    """The pools, or all host addresses but gateway's and DHCP's where none is given."""
    if not wanted.allocation_pools:
        pools = _ranges_without(cidr, sorted({dhcp} if gateway is None else {dhcp, gateway}, key=int))
    if not any(pool.size > (dhcp in pool) for pool in pools):
        field = "allocation_pools" if wanted.allocation_pools else "cidr"
        fields.refuse(field, "no address is left for a guest beside gateway and DHCP: give a larger range")
    fields.check()
    return pools


def checked_nameservers(fields: Fields, field: str, given: Sequence[str]) -> None:
    if len(given) > MAX_NAMESERVERS:
        fields.refuse(field, f"give at most {MAX_NAMESERVERS}")
    for index, text in enumerate(given):
        if parse_address(text) is None:
            fields.refuse(f"{field}[{index}]", f"{text!r} is no IP address")


def checked_host_routes(
    fields: Fields, field: str, given: Sequence[public.HostRoute], plan: SubnetPlan, *, slaac: bool
) -> None:
    """Routes that guests are told of by DHCP (RFC 3442): each to a range, by a neighbour."""
    if len(given) > MAX_HOST_ROUTES:
        fields.refuse(field, f"give at most {MAX_HOST_ROUTES}")
    if given and slaac:
        fields.refuse(field, "a router advertisement carries none: leave them out, or use an IPv4 subnet")
    destinations: set[Range] = set()
    for index, route in enumerate(given):
        name = f"{field}[{index}]"
        destination = _route_range(fields, f"{name}.destination", route.destination, plan)
        _host_address(fields, f"{name}.next_hop", route.next_hop, plan.cidr)
        if destination is not None and destination in destinations:
            fields.refuse(f"{name}.destination", f"{destination} is given twice: give it once")
        if destination is not None:
            destinations.add(destination)


def _route_range(fields: Fields, field: str, text: str, plan: SubnetPlan) -> Range | None:
    try:
        found = ip_network(text)
    except ValueError:
        fields.refuse(field, f"{text!r} is no range of addresses: give one like 10.1.0.0/16, without host bits")
        return None
    if found.version != plan.cidr.version:
        fields.refuse(field, f"{found} is of another family than {plan.cidr}")
        return None
    if found.prefixlen == 0 and plan.gateway is not None:
        fields.refuse(field, f"the way to everywhere is by the gateway, {plan.gateway}: leave this one out")
    if found == METADATA:
        fields.refuse(field, f"{found} is metadata's, which has a route: leave this one out")
    return found


def parse_address(text: str) -> Address | None:
    """The address that a text is, or None. One with a zone ("fe80::1%eth0") means something on one host only."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return None if isinstance(address, IPv6Address) and address.scope_id else address


def choose_address(pools: Sequence[Pool], taken: Iterable[Address], rng: random.Random) -> Address | None:
    """One of the addresses in the pools that are not taken, each as likely as the others; None if there is none.

    Costs as much as `taken` is long, however large the pools are.
    """
    offsets = sorted({offset for address in taken if (offset := _offset(pools, address)) is not None})
    free = sum(pool.size for pool in pools) - len(offsets)
    if free <= 0:
        return None
    chosen = rng.randrange(free)
    # The chosen one of the free is, counted among all, behind those taken before it.
    for offset in offsets:
        if offset > chosen:
            break
        chosen += 1
    return _at(pools, chosen)


def _offset(pools: Sequence[Pool], address: Address) -> int | None:
    before = 0
    for pool in pools:
        if address in pool:
            return before + int(address) - int(pool.first)
        before += pool.size
    return None


def _at(pools: Sequence[Pool], offset: int) -> Address:
    for pool in pools:
        if offset < pool.size:
            return pool.first + offset
        offset -= pool.size
    raise IndexError("beyond the last pool")


def _cidr(fields: Fields, text: str, siblings: Iterable[Range]) -> Range | None:
    try:
        cidr = ip_network(text, strict=False)
    except ValueError:
        fields.refuse("cidr", f"{text!r} is no range of addresses: give one like 192.168.1.0/24")
        return None
    family = _FAMILIES[cidr.version]
    if text != str(cidr):
        fields.refuse("cidr", f"{text!r} is not in canonical form: give {cidr}")
    if not family.shortest <= cidr.prefixlen <= family.longest:
        fields.refuse("cidr", f"/{cidr.prefixlen} is out of range: give /{family.shortest} to /{family.longest}")
    for unusable in family.unusable:
        if cidr.overlaps(unusable):
            fields.refuse("cidr", f"{cidr} overlaps {unusable}, which guests can't use: give another range")
    for sibling in siblings:
        if cidr.overlaps(sibling):
            fields.refuse("cidr", f"{cidr} overlaps {sibling}, another subnet of the network: give another range")
    return cidr


def _gateway(fields: Fields, wanted: public.Subnet, cidr: Range) -> Address | None:
    if wanted.no_gateway:
        if wanted.gateway_ip:
            fields.refuse("gateway_ip", "no_gateway says that there is none: give one or the other")
        return None
    if not wanted.gateway_ip:
        return cidr.network_address + 1
    return _host_address(fields, "gateway_ip", wanted.gateway_ip, cidr)


def _host_address(fields: Fields, field: str, text: str, cidr: Range) -> Address | None:
    address = parse_address(text)
    if address is None or address.version != cidr.version:
        fields.refuse(field, f"{text!r} is no {_FAMILIES[cidr.version].title} address")
        return None
    if address not in host_addresses(cidr):
        fields.refuse(field, f"{address} is no host address of {cidr}: give one of {host_addresses(cidr)}")
        return None
    return address


def _pools(
    fields: Fields, given: Sequence[public.AllocationPool], cidr: Range, gateway: Address | None, slaac: bool
) -> tuple[Pool, ...]:
    """The pools given, in order of their addresses."""
    if given and slaac:
        fields.refuse("allocation_pools", "addresses follow from MAC addresses here: give no pools, or set no_dhcp")
    if len(given) > MAX_POOLS:
        fields.refuse("allocation_pools", f"give at most {MAX_POOLS}")
    found: list[tuple[Pool, str]] = []
    for index, pool in enumerate(given):
        field = f"allocation_pools[{index}]"
        first = _host_address(fields, f"{field}.start", pool.start, cidr)
        last = _host_address(fields, f"{field}.end", pool.end, cidr)
        if first is None or last is None:
            continue
        if int(last) < int(first):
            fields.refuse(f"{field}.end", f"{last} is before the start, {first}: swap them")
            continue
        this = Pool(first, last)
        if gateway is not None and gateway in this:
            fields.refuse(field, f"{this} holds the gateway, {gateway}: leave it out of the pool")
        for other, other_field in found:
            if this.overlaps(other):
                fields.refuse(field, f"{this} overlaps {other} ({other_field}): give ranges without a common address")
        found.append((this, field))
    return tuple(sorted((pool for pool, _ in found), key=lambda pool: int(pool.first)))


def host_addresses(cidr: Range) -> Pool:
    """IPv4: all but the network's and the broadcast address (RFC 919). IPv6: all but the routers' (RFC 4291, 2.6.1)."""
    last = cidr.broadcast_address
    return Pool(cidr.network_address + 1, last - 1 if cidr.version == 4 else last)


def _first_host(cidr: Range, *, but: Address | None) -> Address:
    hosts = host_addresses(cidr)
    return hosts.first + 1 if hosts.first == but else hosts.first


def _ranges_without(cidr: Range, excluded: Sequence[Address]) -> tuple[Pool, ...]:
    """The host addresses without some of them, in order, as ranges. `excluded` is in order."""
    hosts = host_addresses(cidr)
    ranges: list[Pool] = []
    begin = hosts.first
    for address in excluded:
        if int(begin) < int(address):
            ranges.append(Pool(begin, address - 1))
        begin = address + 1
    if int(begin) <= int(hosts.last):
        ranges.append(Pool(begin, hosts.last))
    return tuple(ranges)
