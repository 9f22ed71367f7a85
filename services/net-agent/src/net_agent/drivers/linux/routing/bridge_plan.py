"""Table `bridge cirra-routers`: what of gateways may pass between the bridges of two hosts. Pure.

Each host's guests have their gateway on their own host, at the same addresses. So nobody asks for a gateway across
hosts (ARP, RFC 826; neighbour discovery, RFC 4861), nor does a gateway ask, answer or announce itself there. What it
routes to a guest on another host does go there: through a tunnel as it is, and by an uplink in the name of the uplink's
own MAC address, since the provider's switches would else see one MAC address at the ports of all hosts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Interface

from net_agent.drivers.linux.ruleset import Chain, Rule, Set, Table
from net_agent.model import Router

FAMILY, NAME = "bridge", "cirra-routers"


@dataclass(frozen=True, slots=True)
class Edge:
    """A port of a bridge that leads to other hosts. `uplink_mac`: the uplink's own; "": it is a tunnel."""

    device: str
    uplink_mac: str


def bridge_table(routers: Iterable[Router], edges: Mapping[str, Collection[Edge]], legs: Collection[str]) -> Table:
    """edges: by the device of the bridge. legs: the ends of routers and external namespaces on this host."""
    interfaces = [interface for router in routers for interface in router.interfaces]
    pairs = [(edge, interface) for interface in interfaces for edge in edges.get(interface.bridge, ())]
    asked = {(edge.device, address) for edge, interface in pairs for address in _asked(interface)}
    sets = (
        Set("legs", "ifname", frozenset(legs)),
        Set("gateways", "ether_addr", frozenset(interface.mac_address for interface in interfaces)),
        Set("edges", "ifname", frozenset(edge.device for edge, _ in pairs)),
        Set(
            "addresses",
            "ifname . ipv4_addr",
            frozenset(
                f"{edge.device} . {interface.address.ip}" for edge, interface in pairs if interface.address.version == 4
            ),
        ),
        Set(
            "names",
            "ifname : ether_addr",
            frozenset(f"{edge.device} : {edge.uplink_mac}" for edge, _ in pairs if edge.uplink_mac),
        ),
    )
    return Table(FAMILY, NAME, sets, (_INPUT, _INWARDS, _outwards(asked), _NAMES))


def _asked(interface: object) -> tuple[IPv6Address, ...]:
    address = interface.address  # type: ignore[attr-defined]
    if not isinstance(address, IPv6Interface):
        return ()
    return (address.ip, link_local(interface.mac_address))  # type: ignore[attr-defined]


def link_local(mac_address: str) -> IPv6Address:
    """The link-local address that an interface gives itself (RFC 4291, appendix A)."""
    octets = bytes.fromhex(mac_address.replace(":", ""))
    identifier = bytes([octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]])
    return IPv6Address(b"\xfe\x80" + bytes(6) + identifier)


_DISCOVERY = "icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, nd-redirect }"

_INPUT = Chain(
    "input", "filter", "input", -1, (Rule("iifname @legs counter drop", "a router is no way into the host"),)
)
_INWARDS = Chain(
    "inwards",
    "filter",
    "prerouting",
    -250,
    (
        Rule("iifname @edges ether saddr @gateways ether type arp counter drop", "no gateway's ARP from other hosts"),
        Rule(f"iifname @edges ether saddr @gateways {_DISCOVERY} counter drop", "nor its neighbour discovery"),
        Rule("iifname . arp daddr ip @addresses counter drop", "nobody elsewhere asks for a gateway here"),
    ),
)
# Last of all: the rewriting leaves the name that other rules know a gateway by.
_NAMES = Chain(
    "names",
    "filter",
    "postrouting",
    100,
    (
        Rule(
            "ether saddr @gateways ether saddr set oifname map @names",
            "the provider's switches know this host by its uplink",
        ),
    ),
)


def _outwards(asked: Collection[tuple[str, IPv6Address]]) -> Chain:
    rules = [
        Rule("oifname @edges ether saddr @gateways ether type arp counter drop", "no gateway's ARP to other hosts"),
        Rule(f"oifname @edges ether saddr @gateways {_DISCOVERY} counter drop", "nor its neighbour discovery"),
        Rule("oifname . arp daddr ip @addresses counter drop", "guests have their gateway on this host"),
    ]
    rules += [
        # The target address follows the eight octets of type, code, checksum and reserved bits (RFC 4861, 4.3).
        Rule(
            f'oifname "{device}" icmpv6 type nd-neighbor-solicit @th,64,128 0x{int(address):032x} counter drop',
            f"guests have {address} on this host",
        )
        for device, address in sorted(asked)
    ]
    return Chain("outwards", "filter", "forward", -250, tuple(rules))
