"""The arithmetic of subnets: which addresses there are, which are spoken for, which is given next. IPv4; pure."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_network

from cirra.network.v1 import network_pb2 as public
from conductor.fields import Fields

MAX_POOLS = 16
MAX_NAMESERVERS = 8
# A subnet must hold its DHCP server and one guest beside the two addresses that no host has.
LONGEST_PREFIX = 30
SHORTEST_PREFIX = 8

_UNUSABLE = tuple(
    IPv4Network(cidr)
    for cidr in (
        "0.0.0.0/8",  # "this network" (RFC 791)
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local (RFC 3927); metadata is there
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved
    )
)


@dataclass(frozen=True, slots=True)
class Pool:
    """The addresses from `first` to `last`, both included."""

    first: IPv4Address
    last: IPv4Address

    @property
    def size(self) -> int:
        return int(self.last) - int(self.first) + 1

    def __contains__(self, address: object) -> bool:
        return isinstance(address, IPv4Address) and self.first <= address <= self.last

    def overlaps(self, other: Pool) -> bool:
        return self.first <= other.last and other.first <= self.last

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


@dataclass(frozen=True, slots=True)
class SubnetPlan:
    """A subnet's addresses. `pools` may hold `dhcp`, which is nevertheless given to nobody; never `gateway`."""

    cidr: IPv4Network
    gateway: IPv4Address | None
    dhcp: IPv4Address
    pools: tuple[Pool, ...]


def plan_subnet(wanted: public.Subnet, siblings: Iterable[IPv4Network] = ()) -> SubnetPlan:
    """The plan of a subnet as asked for, its gaps filled. `siblings`: the other subnets of the network.

    Without a gateway given, the first host address (unless `no_gateway`); without an address for DHCP, the first of
    the pools; without pools, all host addresses but these two. Raises InvalidArgument, with every violation.
    """
    fields = Fields("subnet.")
    cidr = _cidr(fields, wanted.cidr, siblings)
    fields.check()
    assert cidr is not None
    gateway = _gateway(fields, wanted, cidr)
    pools = _pools(fields, wanted.allocation_pools, cidr, gateway)
    given_dhcp = _host_address(fields, "dhcp_ip", wanted.dhcp_ip, cidr) if wanted.dhcp_ip else None
    if given_dhcp is not None and given_dhcp == gateway:
        fields.refuse("dhcp_ip", f"{given_dhcp} is the gateway's: give another, or none")
    fields.check()
    dhcp = given_dhcp or (pools[0].first if pools else _first_host(cidr, but=gateway))
    if not wanted.allocation_pools:
        pools = _ranges_without(cidr, sorted({dhcp} if gateway is None else {dhcp, gateway}))
    if not any(pool.size > (dhcp in pool) for pool in pools):
        field = "allocation_pools" if wanted.allocation_pools else "cidr"
        fields.refuse(field, "no address is left for a guest beside gateway and DHCP: give a larger range")
    fields.check()
    return SubnetPlan(cidr, gateway, dhcp, pools)


def checked_nameservers(fields: Fields, field: str, given: Sequence[str]) -> None:
    if len(given) > MAX_NAMESERVERS:
        fields.refuse(field, f"give at most {MAX_NAMESERVERS}")
    for index, text in enumerate(given):
        if parse_address(text) is None:
            fields.refuse(f"{field}[{index}]", f"{text!r} is no IPv4 address")


def parse_address(text: str) -> IPv4Address | None:
    """The IPv4 address that a text is in its usual form, or None."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return address if isinstance(address, IPv4Address) else None


def choose_address(pools: Sequence[Pool], taken: Iterable[IPv4Address], rng: random.Random) -> IPv4Address | None:
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


def _offset(pools: Sequence[Pool], address: IPv4Address) -> int | None:
    before = 0
    for pool in pools:
        if address in pool:
            return before + int(address) - int(pool.first)
        before += pool.size
    return None


def _at(pools: Sequence[Pool], offset: int) -> IPv4Address:
    for pool in pools:
        if offset < pool.size:
            return pool.first + offset
        offset -= pool.size
    raise IndexError("beyond the last pool")


def _cidr(fields: Fields, text: str, siblings: Iterable[IPv4Network]) -> IPv4Network | None:
    try:
        cidr = ip_network(text, strict=False)
    except ValueError:
        fields.refuse("cidr", f"{text!r} is no range of addresses: give one like 192.168.1.0/24")
        return None
    if not isinstance(cidr, IPv4Network):
        fields.refuse("cidr", "IPv6 is not supported: give an IPv4 range like 192.168.1.0/24")
        return None
    if text != str(cidr):
        fields.refuse("cidr", f"{text!r} is not in canonical form: give {cidr}")
    if not SHORTEST_PREFIX <= cidr.prefixlen <= LONGEST_PREFIX:
        fields.refuse("cidr", f"/{cidr.prefixlen} is out of range: give /{SHORTEST_PREFIX} to /{LONGEST_PREFIX}")
    for unusable in _UNUSABLE:
        if cidr.overlaps(unusable):
            fields.refuse("cidr", f"{cidr} overlaps {unusable}, which guests can't use: give another range")
    for sibling in siblings:
        if cidr.overlaps(sibling):
            fields.refuse("cidr", f"{cidr} overlaps {sibling}, another subnet of the network: give another range")
    return cidr


def _gateway(fields: Fields, wanted: public.Subnet, cidr: IPv4Network) -> IPv4Address | None:
    if wanted.no_gateway:
        if wanted.gateway_ip:
            fields.refuse("gateway_ip", "no_gateway says that there is none: give one or the other")
        return None
    if not wanted.gateway_ip:
        return cidr.network_address + 1
    return _host_address(fields, "gateway_ip", wanted.gateway_ip, cidr)


def _host_address(fields: Fields, field: str, text: str, cidr: IPv4Network) -> IPv4Address | None:
    address = parse_address(text)
    if address is None:
        fields.refuse(field, f"{text!r} is no IPv4 address")
    elif address not in _hosts(cidr):
        fields.refuse(field, f"{address} is no host address of {cidr}: give one of {_hosts(cidr)}")
        return None
    return address


def _pools(
    fields: Fields, given: Sequence[public.AllocationPool], cidr: IPv4Network, gateway: IPv4Address | None
) -> tuple[Pool, ...]:
    """The pools given, in order of their addresses."""
    if len(given) > MAX_POOLS:
        fields.refuse("allocation_pools", f"give at most {MAX_POOLS}")
    found: list[tuple[Pool, str]] = []
    for index, pool in enumerate(given):
        field = f"allocation_pools[{index}]"
        first = _host_address(fields, f"{field}.start", pool.start, cidr)
        last = _host_address(fields, f"{field}.end", pool.end, cidr)
        if first is None or last is None:
            continue
        if last < first:
            fields.refuse(f"{field}.end", f"{last} is before the start, {first}: swap them")
            continue
        this = Pool(first, last)
        if gateway is not None and gateway in this:
            fields.refuse(field, f"{this} holds the gateway, {gateway}: leave it out of the pool")
        for other, other_field in found:
            if this.overlaps(other):
                fields.refuse(field, f"{this} overlaps {other} ({other_field}): give ranges without a common address")
        found.append((this, field))
    return tuple(sorted((pool for pool, _ in found), key=lambda pool: pool.first))


def _hosts(cidr: IPv4Network) -> Pool:
    """All but the network's and the broadcast address (RFC 919)."""
    return Pool(cidr.network_address + 1, cidr.broadcast_address - 1)


def _first_host(cidr: IPv4Network, *, but: IPv4Address | None) -> IPv4Address:
    hosts = _hosts(cidr)
    return hosts.first + 1 if hosts.first == but else hosts.first


def _ranges_without(cidr: IPv4Network, excluded: Sequence[IPv4Address]) -> tuple[Pool, ...]:
    """The host addresses without some of them, in order, as ranges. `excluded` is in order."""
    hosts = _hosts(cidr)
    ranges: list[Pool] = []
    begin = hosts.first
    for address in excluded:
        if begin < address:
            ranges.append(Pool(begin, address - 1))
        begin = address + 1
    if begin <= hosts.last:
        ranges.append(Pool(begin, hosts.last))
    return tuple(ranges)
