"""The hops of a guest's path, in its order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from net_agent.diagnosis.finding import Finding
from net_agent.diagnosis.hops import metadata, names, outside, services, wiring
from net_agent.diagnosis.hops.host_filter import host_filter
from net_agent.diagnosis.path import GuestPath

Check = Callable[[GuestPath], Awaitable[Finding]]
LIMIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Hop:
    """`name`: stable. `title`: what is so when it is right. `limit_s`: after which it is unknown."""

    name: str
    title: str
    check: Check
    inward: bool = False
    limit_s: float = LIMIT_S


HOPS: tuple[Hop, ...] = (
    Hop("rules", "the port's rules are in force", wiring.rules),
    Hop("tap", "the tap is up and on its bridge", wiring.tap),
    Hop("guest", "the guest has its card plugged", wiring.guest),
    Hop("bridge", "the bridge is up", wiring.bridge),
    Hop("host-filter", "the host's own rules let bridges pass", host_filter),
    Hop("uplink", "the uplink is on the bridge and has a carrier", wiring.uplink),
    Hop("dhcp", "DHCP answers", services.dhcp),
    Hop("address", "the guest has its address", services.address),
    Hop("metadata", "metadata answers", metadata.metadata),
    Hop("gateway", "the gateway answers", outside.gateway),
    Hop("outside", "the outside answers", outside.outside),
    Hop("dns", "DNS knows the guest's name", names.dns),
    Hop("dns-outside", "DNS knows the outside", names.dns_outside),
)
