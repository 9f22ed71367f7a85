"""Security groups as chains: what a group lets pass, what a port in groups sends and receives. Pure; nft's language.

The same chains serve both back ends (`backends`): in each, what is new comes to them, once for its sender and once for
its receiver; `accept` ends one of the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address

from net_agent.drivers.linux.guard import names
from net_agent.drivers.linux.guard.addresses import MANY_PORTS, text_of
from net_agent.drivers.linux.guard.spoofing import DROP
from net_agent.drivers.linux.ruleset import Chain, Rule, Set, regular
from net_agent.model import METADATA_ADDRESS, METADATA_ADDRESS_IPV6, Port, SecurityGroup, SecurityGroupRule

_FAMILY = {4: "meta protocol ip", 6: "meta protocol ip6"}
_SADDR = {4: "ip saddr", 6: "ip6 saddr"}
_DADDR = {4: "ip daddr", 6: "ip6 daddr"}
_WITH_PORTS = {6: "tcp", 17: "udp", 132: "sctp"}
_ICMP = {1: "icmp", 58: "icmpv6"}
# RFC 4890, section 4.4: without these there is no IPv6 on a link. Solicitations and reports go out, queries, router
# advertisements and redirects come in.
_ND_OUT = "{ 131, 132, 133, 135, 136, 143 }"
_ND_IN = "{ 130, 134, 135, 136, 137 }"
# Of each connection its first packet: all of one that is never answered (UDP to a collector) are `new`.
_BEGINS = "ct state new ct status & confirmed == 0"
# Each has a connection at least: as many as a host's table holds by default, both ways.
_MAX_PARTS = 262_144


@dataclass(frozen=True, slots=True)
class Limits:
    """Of each port and way, so that one guest can't fill the host's table of connections.

    `connections`: at the same time; `new_per_second`: over a longer time; twice as many may come at once.

    With each new connection the kernel goes through all that it has counted along with it (nf_conncount), and clears
    away only eight of those that have ended. So they are counted in `parts`, which they come to in turn, each with a
    share of what may be. Prime, so that short and long ones that alternate don't gather in different parts.
    """

    connections: int = 16_384
    new_per_second: int = 2_000
    parts: int = 251


LIMITS = Limits()


@lru_cache(MANY_PORTS)
def group_chains(group: SecurityGroup) -> tuple[Chain, ...]:
    return tuple(
        regular(
            names.group_chain(group.group_id, egress=egress),
            (_rule(rule) for rule in group.rules if rule.egress == egress),
        )
        for egress in (True, False)
    )


def _rule(rule: SecurityGroupRule) -> Rule:
    parts = [_FAMILY[rule.ip_version], *_other_end(rule), *_protocol(rule), "accept"]
    return Rule(" ".join(parts), rule.rule_id)


def _other_end(rule: SecurityGroupRule) -> Iterator[str]:
    side = (_DADDR if rule.egress else _SADDR)[rule.ip_version]
    if rule.remote_group_id is not None:
        yield f"{side} @{names.members_set(rule.remote_group_id, rule.ip_version)}"
    elif rule.remote_cidr is not None and rule.remote_cidr.prefixlen:
        yield f"{side} {text_of(rule.remote_cidr)}"


def _protocol(rule: SecurityGroupRule) -> Iterator[str]:
    number = rule.protocol
    if number is None:
        return
    if rule.ports is not None and number in _WITH_PORTS:
        first, last = rule.ports
        yield f"{_WITH_PORTS[number]} dport {first if first == last else f'{first}-{last}'}"
    elif rule.icmp_type is not None and number in _ICMP:
        yield f"{_ICMP[number]} type {rule.icmp_type}"
        if rule.icmp_code is not None:
            yield f"{_ICMP[number]} code {rule.icmp_code}"
    else:
        yield f"meta l4proto {number}"


def port_chains(port: Port, number: int, groups: frozenset[str], limits: Limits) -> tuple[Chain, Chain]:
    """What is new and to pass from, and to, the port. number: its own on this host. groups: those that this host knows;
    of one that it does not know yet, nothing passes."""
    if port.unguarded:
        return _unguarded_chains(port.device, number, limits)
    own = tuple(group_id for group_id in port.security_group_ids if group_id in groups)
    return _guarded_chains(port.device, number, own, tuple(dhcp_servers(port)), limits)


@lru_cache(MANY_PORTS)
def _unguarded_chains(device: str, number: int, limits: Limits) -> tuple[Chain, Chain]:
    anything = Rule("accept", "port security is off")
    out, into = ((*_limited(limits, number, egress=egress), anything) for egress in (True, False))
    return regular(names.sending(device), out), regular(names.receiving(device), into)


@lru_cache(MANY_PORTS)
def _guarded_chains(
    device: str, number: int, own: tuple[str, ...], servers: tuple[IPv4Address, ...], limits: Limits
) -> tuple[Chain, Chain]:
    sends, receives = (_limited(limits, number, egress=egress) for egress in (True, False))
    out = (*_sends(), *sends, *_jumps(own, egress=True), Rule(DROP, "no rule lets it out"))
    into = (*_receives(servers), *receives, *_jumps(own, egress=False), Rule(DROP, "no rule lets it in"))
    return regular(names.sending(device), out), regular(names.receiving(device), into)


def _sends() -> Iterator[Rule]:
    """What every guest needs, and what none may, though it came in fragments that no earlier rule could read."""
    yield Rule(f"ct state invalid {DROP}", "of no connection")
    yield Rule(f"icmpv6 type {{ nd-router-advert, nd-redirect }} {DROP}", "no guest is a router")
    yield Rule(f"icmpv6 type {_ND_OUT} accept", "neighbour discovery")
    yield Rule(f"udp sport 67 udp dport 68 {DROP}", "no guest is a DHCP server")
    yield Rule(f"udp sport 547 udp dport 546 {DROP}", "no guest is a DHCPv6 server")
    yield Rule("ip protocol udp udp sport 68 udp dport 67 accept", "DHCP client")
    yield Rule("ip6 nexthdr udp udp sport 546 udp dport 547 accept", "DHCPv6 client")
    yield Rule(f"ip daddr {METADATA_ADDRESS} tcp dport 80 accept", "metadata")
    yield Rule(f"ip6 daddr {METADATA_ADDRESS_IPV6} tcp dport 80 accept", "metadata (IPv6)")


def _receives(servers: Iterable[IPv4Address]) -> Iterator[Rule]:
    yield Rule(f"ct state invalid {DROP}", "of no connection")
    yield Rule(f"icmpv6 type {_ND_IN} accept", "neighbour discovery")
    texts = [text_of(address) for address in servers]
    if texts:
        yield Rule(f"ip saddr {{ {', '.join(texts)} }} udp sport 67 udp dport 68 accept", "DHCP")
    yield Rule("ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept", "DHCPv6")


def dhcp_servers(port: Port) -> list[IPv4Address]:
    """Of its network: on every host the same."""
    return [subnet.server for subnet in port.network.subnets if subnet.server is not None]


def counted_connections() -> Set:
    """Of all ports: how many there are in each part of each way. A part in which none is left goes by itself."""
    return Set(names.CONNECTIONS, "mark", frozenset(), dynamic=True, size=_MAX_PARTS)


def _limited(limits: Limits, number: int, *, egress: bool) -> Iterator[Rule]:
    """The cheaper one first: beyond it nothing is counted."""
    rate = f"limit rate over {limits.new_per_second}/second burst {2 * limits.new_per_second} packets"
    yield Rule(f"{_BEGINS} {rate} {DROP}", "too many new connections")
    part = f"numgen inc mod {limits.parts} offset {(2 * number + egress) * limits.parts}"
    count = f"ct count over {limits.connections // limits.parts}"
    yield Rule(f"{_BEGINS} add @{names.CONNECTIONS} {{ {part} {count} }} {DROP}", "too many connections")


def _jumps(group_ids: Iterable[str], *, egress: bool) -> Iterator[Rule]:
    for group_id in group_ids:
        yield Rule(f"jump {names.group_chain(group_id, egress=egress)}", "a security group")
