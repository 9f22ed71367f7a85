"""What a guest may call itself: the rules of its tap in the bridge's `prerouting`. Pure; nft's own language.

RFC 5227 (ARP probes), RFC 4861 and 4862 (neighbour discovery), RFC 6105 (RA guard), RFC 2131 and 8415 (DHCP).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from net_agent.drivers.linux.guard.addresses import MANY_PORTS, Sender, senders, texts
from net_agent.drivers.linux.ruleset import Chain, Rule, regular
from net_agent.model import Port

DROP = "counter drop"
# What a guest sends before it has an address: solicitations of routers and for its own address, and its groups.
_WITHOUT_ADDRESS = "{ 131, 132, 133, 135, 143 }"
# The target of an advertisement, 8 octets into ICMPv6.
_TARGET = "@th,64,128"


def spoofing_chain(port: Port) -> Chain:
    """Of its tap: see `spoofing_rules`."""
    return _chain(port.device, () if port.unguarded else senders(port))


@lru_cache(MANY_PORTS)
def _chain(device: str, found: tuple[Sender, ...]) -> Chain:
    return regular(device, _rules(found))


def spoofing_rules(port: Port) -> tuple[Rule, ...]:
    """Frames of its own MAC addresses with their own addresses only; DHCP as a client, never as a server; no routing.

    All else is dropped, tagged frames included. A port without port security may send anything.
    """
    return spoofing_chain(port).rules


def _rules(found: tuple[Sender, ...]) -> tuple[Rule, ...]:
    if not found:
        return ()
    return (
        *_shortcuts(found[0]),
        *_roles(),
        *(rule for sender in found for rule in _sender_rules(sender)),
        Rule(DROP, "anything else"),
    )


def _shortcuts(own: Sender) -> Iterator[Rule]:
    """First, since nearly all frames are such: they pass by one rule, as they would by all that follow. To `ether type`
    a tagged frame is one, and a fragment without ports doesn't match."""
    frame = f"ether saddr {own.mac_address}"
    no_server = "th sport != 67 th sport != 547 accept"
    if own.ipv4:
        yield Rule(f"ether type ip {frame} ip saddr {texts(own.ipv4)} {no_server}", "most of what it sends")
    ipv6 = f"ether type ip6 {frame} ip6 saddr {texts(own.ipv6)} meta l4proto {{ tcp, udp }}"
    yield Rule(f"{ipv6} {no_server}", "most of what it sends (IPv6)")


def _roles() -> Iterator[Rule]:
    # Before all others: these look into a tagged frame as if it had no tag.
    yield Rule(f"ether type {{ 8021q, 8021ad }} {DROP}", "no guest chooses a VLAN")
    yield Rule(f"udp sport 67 {DROP}", "no guest is a DHCP server")
    yield Rule(f"udp sport 547 {DROP}", "no guest is a DHCPv6 server")
    yield Rule(f"icmpv6 type {{ nd-router-advert, nd-redirect }} {DROP}", "no guest is a router")


def _sender_rules(sender: Sender) -> Iterator[Rule]:
    mac = sender.mac_address
    frame = f"ether saddr {mac}"
    who = f"{mac}:"
    arp = f"{frame} arp saddr ether {mac}"
    yield Rule(f"{arp} arp saddr ip 0.0.0.0 accept", f"{who} ARP probe")
    yield Rule(f"{frame} ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept", f"{who} DHCP client")
    if sender.ipv4:
        yield Rule(f"{arp} arp saddr ip {texts(sender.ipv4)} accept", f"{who} ARP")
        yield Rule(f"{frame} ip saddr {texts(sender.ipv4)} accept", f"{who} its addresses")
    own = _targets(sender)
    yield Rule(f"{frame} icmpv6 type nd-neighbor-advert {_TARGET} != {own} {DROP}", f"{who} ND of others' addresses")
    yield Rule(f"{frame} ip6 saddr :: icmpv6 type {_WITHOUT_ADDRESS} accept", f"{who} before it has an address")
    yield Rule(f"{frame} ip6 saddr {texts(sender.ipv6)} accept", f"{who} its addresses (IPv6)")


def _targets(sender: Sender) -> str:
    """As numbers: what is raw has no type."""
    found = []
    for each in sender.ipv6:
        first, last = int(each.network_address), int(each.broadcast_address)
        found.append(hex(first) if first == last else f"{hex(first)}-{hex(last)}")
    return found[0] if len(found) == 1 else f"{{ {', '.join(found)} }}"
