"""The rules of table `bridge cirra`, as nftables' JSON (libnftables-json(5)). Pure.

Layout: `prerouting` sends what comes from a tap through the chain of that tap (found in the map `taps`), `input` keeps
guests away from the host itself, `forward` keeps apart a network's services and what is beyond this host: they have
the same addresses on every host. Everything that comes and goes is an element or a chain of its own, so that a change
for one port is one small transaction that touches no other. Security groups will hang off the same map.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core import eui64
from net_agent.model import Port

FAMILY, TABLE = "bridge", "cirra"
TAPS, MEMBERS, UPLINKS, SERVICES = "taps", "members", "uplinks", "services"
PREROUTING, INPUT, FORWARD = "prerouting", "input", "forward"
# Before conntrack and br_netfilter (NF_BR_PRI_NAT_DST_BRIDGED is -300).
_PREROUTING_PRIORITY = -300

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rule:
    """The comment ends in a digest of the expressions: a rule in the kernel tells by it whether it is this one."""

    expressions: tuple[Json, ...]
    note: str

    @property
    def comment(self) -> str:
        digest = hashlib.sha256(json.dumps(self.expressions, sort_keys=True).encode()).hexdigest()[:8]
        return f"{self.note} #{digest}"


def _meta(key: str) -> Json:
    return {"meta": {"key": key}}


def _payload(protocol: str, field: str) -> Json:
    return {"payload": {"protocol": protocol, "field": field}}


def _match(left: Json, right: Any, op: str = "==") -> Json:
    return {"match": {"op": op, "left": left, "right": right}}


def _one_of(values: Sequence[str]) -> Any:
    return values[0] if len(values) == 1 else {"set": list(values)}


_ACCEPT: Json = {"accept": None}
_DROP: tuple[Json, Json] = ({"counter": None}, {"drop": None})


def base_rules() -> Mapping[str, tuple[Rule, ...]]:
    """The rules of the base chains, the same whatever is plugged."""
    return {
        PREROUTING: (
            Rule(({"vmap": {"key": _meta("iifname"), "data": f"@{TAPS}"}},), "each tap has a chain"),
            Rule(
                (_match(_meta("iifname"), f"@{UPLINKS}"), _match(_payload("udp", "dport"), 67), *_DROP),
                "others' DHCP clients are not ours to answer",
            ),
        ),
        INPUT: (Rule((_match(_meta("iifname"), f"@{MEMBERS}"), *_DROP), "a bridge is no way into the host"),),
        FORWARD: (
            Rule(
                (_match(_meta("iifname"), f"@{SERVICES}"), _match(_meta("oifname"), f"@{UPLINKS}"), *_DROP),
                "services are never seen beyond this host",
            ),
            Rule(
                (_match(_meta("iifname"), f"@{UPLINKS}"), _match(_meta("oifname"), f"@{SERVICES}"), *_DROP),
                "services answer guests of this host alone",
            ),
        ),
    }


def port_rules(port: Port) -> tuple[Rule, ...]:
    """What a guest may send: frames from its own MAC address, ARP, IPv4 and IPv6 from its own addresses, DHCP as a
    client.

    Everything else is dropped, tagged frames included. An ARP sender of 0.0.0.0 is a probe (RFC 5227).
    """
    own = [str(address) for address in port.addresses if address.version == 4]
    unset_or_own = _one_of(["0.0.0.0", *own])
    rules = [
        Rule((_match(_payload("ether", "saddr"), port.mac_address, "!="), *_DROP), "a foreign MAC address"),
        Rule((_match(_payload("arp", "saddr ether"), port.mac_address, "!="), *_DROP), "ARP for a foreign MAC"),
        Rule((_match(_payload("arp", "saddr ip"), unset_or_own, "!="), *_DROP), "ARP for a foreign address"),
        Rule((_match(_payload("ether", "type"), "arp"), _ACCEPT), "ARP"),
        Rule(
            (
                _match(_payload("ip", "saddr"), unset_or_own),
                _match(_payload("udp", "sport"), 68),
                _match(_payload("udp", "dport"), 67),
                _ACCEPT,
            ),
            "DHCP client",
        ),
        Rule((_match(_payload("udp", "sport"), 67), *_DROP), "no guest is a DHCP server"),
    ]
    if own:
        rules.append(Rule((_match(_payload("ip", "saddr"), _one_of(own)), _ACCEPT), "its own addresses"))
    rules += _ipv6_rules(port)
    rules.append(Rule(_DROP, "anything else"))
    return tuple(rules)


def _ipv6_rules(port: Port) -> list[Rule]:
    """For a port with IPv6 addresses: those, its own on the link, and none at all while it looks whether an address is
    taken (RFC 4862, section 5.4.2); it is no router and no DHCP server."""
    own = [str(address) for address in port.addresses if address.version == 6]
    if not own:
        return []
    own.append(str(eui64.address_of_mac(eui64.LINK_LOCAL, port.mac_address)))
    kind = _payload("icmpv6", "type")
    neighbours = ["nd-neighbor-solicit", "mld2-listener-report", "mld-listener-report", "mld-listener-done"]
    return [
        Rule((_match(kind, {"set": ["nd-router-advert", "nd-redirect"]}), *_DROP), "no guest is a router"),
        Rule((_match(_payload("udp", "sport"), 547), *_DROP), "no guest is a DHCPv6 server"),
        Rule(
            (_match(_payload("ip6", "saddr"), "::"), _match(kind, {"set": neighbours}), _ACCEPT),
            "looks whether an address is taken",
        ),
        Rule((_match(_payload("ip6", "saddr"), _one_of(own)), _ACCEPT), "its own IPv6 addresses"),
    ]


# ---- commands of a transaction


def command(verb: str, kind: str, **fields: Any) -> Json:
    if kind != "table":
        fields["table"] = TABLE
    return {verb: {kind: {"family": FAMILY, **fields}}}


def chain_commands(name: str, rules: Sequence[Rule]) -> list[Json]:
    """The chain holds just these rules; it exists already, or not."""
    return [
        command("add", "chain", name=name),
        command("flush", "chain", name=name),
        *(command("add", "rule", chain=name, expr=list(rule.expressions), comment=rule.comment) for rule in rules),
    ]


def base_commands() -> list[Json]:
    """The table with its sets and base chains; what of it exists stays."""
    hooks = ((PREROUTING, _PREROUTING_PRIORITY), (INPUT, 0), (FORWARD, 0))
    commands = [
        command("add", "table", name=TABLE),
        command("add", "set", name=MEMBERS, type="ifname"),
        command("add", "set", name=UPLINKS, type="ifname"),
        command("add", "set", name=SERVICES, type="ifname"),
        command("add", "map", name=TAPS, type="ifname", map="verdict"),
    ]
    for name, priority in hooks:
        commands.append(command("add", "chain", name=name, type="filter", hook=name, prio=priority, policy="accept"))
        commands.append(command("flush", "chain", name=name))
        for rule in base_rules()[name]:
            commands.append(command("add", "rule", chain=name, expr=list(rule.expressions), comment=rule.comment))
    return commands
