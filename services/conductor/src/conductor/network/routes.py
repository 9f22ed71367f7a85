"""Static routes of routers: what may be one. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from cirra.network.v1.router_pb2 import StaticRoute
from conductor.fields import Fields

# Neutron's `max_routes`.
MAX_ROUTES = 30

Range = IPv4Network | IPv6Network


def check_routes(
    fields: Fields, routes: Sequence[StaticRoute], ranges: Sequence[Range], own: Collection[str], *, has_gateway: bool
) -> None:
    """Notes what is wrong with them. `ranges`: where next hops may be; `own`: the router's addresses."""
    if len(routes) > MAX_ROUTES:
        fields.refuse("routes", f"give at most {MAX_ROUTES}")
    seen: set[tuple[str, str]] = set()
    for index, route in enumerate(routes[:MAX_ROUTES]):
        name = f"routes[{index}]"
        destination = _destination(fields, f"{name}.destination", route.destination, has_gateway=has_gateway)
        hop = _next_hop(fields, f"{name}.next_hop", route.next_hop, ranges, own)
        if destination is not None and hop is not None and destination.version != hop.version:
            fields.refuse(f"{name}.next_hop", f"{hop} is not of the same family as {destination}")
        if (route.destination, route.next_hop) in seen:
            fields.refuse(name, "it is given twice: give it once")
        seen.add((route.destination, route.next_hop))


def leads_into(route: StaticRoute, ranges: Sequence[Range]) -> bool:
    """Whether the next hop is in one of the ranges."""
    return any(ip_address(route.next_hop) in cidr for cidr in ranges)


def _destination(fields: Fields, field: str, text: str, *, has_gateway: bool) -> Range | None:
    try:
        destination = ip_network(text, strict=False)
    except ValueError:
        fields.refuse(field, f"{text!r} is no range of addresses: give one like 10.1.0.0/16")
        return None
    if str(destination) != text:
        fields.refuse(field, f"{text!r} is not in canonical form: give {destination}")
    if has_gateway and destination.prefixlen == 0:
        fields.refuse(field, "the external gateway is the default route: give a narrower range, or clear the gateway")
    return destination


def _next_hop(
    fields: Fields, field: str, text: str, ranges: Sequence[Range], own: Collection[str]
) -> IPv4Address | IPv6Address | None:
    try:
        hop = ip_address(text)
    except ValueError:
        fields.refuse(field, f"{text!r} is no address: give one of a subnet of the router")
        return None
    if str(hop) in own:
        fields.refuse(field, f"{hop} is the router's own: give another router's")
    elif not any(hop in cidr for cidr in ranges):
        known = ", ".join(str(cidr) for cidr in ranges) or "no subnet"
        fields.refuse(field, f"{hop} is not in reach of the router, which is on {known}: give an address of those")
    return hop
