"""The hops of a guest's path, in its order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from net_agent.diagnosis.finding import Finding
from net_agent.diagnosis.hops import inward, ipv6, metadata, names, outside, routing, services, tunnel, wiring
from net_agent.diagnosis.hops.faults import faults
from net_agent.diagnosis.hops.groups import groups, groups_out
from net_agent.diagnosis.hops.host_filter import host_filter
from net_agent.diagnosis.hops.underlay import underlay
from net_agent.diagnosis.path import GuestPath

Check = Callable[[GuestPath], Awaitable[Finding]]
LIMIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Hop:
    """`name`: stable. `title`: what is so when it is right. `limit_s`: after which it is unknown.

    `side`: it is between the guest and the tunnel, which another guest's packets take too.
    """

    name: str
    title: str
    check: Check
    inward: bool = False
    limit_s: float = LIMIT_S
    side: bool = False


HOST_FILTER = Hop("host-filter", "the host's own rules let bridges pass", host_filter, side=True)
HOPS: tuple[Hop, ...] = (
    Hop("rules", "the port's rules are in force", wiring.rules, side=True),
    Hop("tap", "the tap is up and on its bridge", wiring.tap, side=True),
    Hop("guest", "the guest has its card plugged", wiring.guest, side=True),
    Hop("bridge", "the bridge is up", wiring.bridge, side=True),
    HOST_FILTER,
    Hop("uplink", "the uplink is on the bridge and has a carrier", wiring.uplink, side=True),
    Hop("tunnel", "the tunnel to other hosts is up", tunnel.tunnel, side=True),
    Hop("peers", "the ways to guests of other hosts are known", tunnel.peers, side=True),
    Hop("dhcp", "DHCP answers", services.dhcp),
    Hop("address", "the guest has its address", services.address),
    Hop("metadata", "metadata answers", metadata.metadata),
    Hop("groups-out", "security groups let the guest out", groups_out),
    Hop("router", "the router is on the bridge", routing.router),
    Hop("gateway", "the gateway answers", outside.gateway),
    Hop("translation", "the guest's address is translated", routing.translation),
    Hop("way-out", "the router has its way out", routing.way_out),
    Hop("external-uplink", "the external network has its uplink", inward.external_uplink),
    # What a guest with a floating IP asks for out there comes back this way.
    Hop("floating-route", "the floating IP is led to the router", inward.floating_route, inward=True),
    Hop("floating-arp", "the floating IP answers ARP", inward.floating_arp, inward=True),
    Hop("next-hop", "the provider's router answers", outside.next_hop),
    Hop("outside", "the outside answers", outside.outside),
    Hop("dns", "DNS knows the guest's name", names.dns),
    Hop("dns-outside", "DNS knows the outside", names.dns_outside),
    Hop("advertisement", "IPv6 is advertised to the guest", ipv6.advertised),
    Hop("metadata-ipv6", "metadata answers by IPv6", metadata.metadata6),
    Hop("gateway-ipv6", "the IPv6 gateway answers", ipv6.gateway),
    Hop("dns-ipv6", "DNS answers by IPv6", ipv6.dns),
    Hop("outside-ipv6", "the outside answers by IPv6", ipv6.outside),
    Hop("underlay", "the hosts of its network's other guests answer", underlay, side=True),
    Hop("faults", "the host could make all that it was told", faults, side=True),
    Hop("floating-dnat", "the floating IP is led to the guest", inward.floating_dnat, inward=True),
    Hop("groups", "security groups let it pass", groups, inward=True),
    Hop("reached", "the guest is reached", inward.reached, inward=True),
)
SIDE: tuple[Hop, ...] = tuple(hop for hop in HOPS if hop.side)
"""What a host is asked of a guest that is at the other end of another one's way."""
