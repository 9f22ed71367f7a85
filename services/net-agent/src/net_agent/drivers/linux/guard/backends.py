"""Two ways in which bridged frames come to the chains of ports and groups, by what the kernel can. Pure.

*Bridge*: connections are tracked by the bridge itself (nf_conntrack_bridge, Linux 5.3): all is one table.

*IP*: br_netfilter shows bridged frames to the hooks of IP, where connections are tracked. There the tap is not known
any more, so a mark tells it: the sender's number in the upper half, the receiver's in the lower. What has passed gets
one more mark, without which the bridge lets nothing on: where br_netfilter is switched off, no frame passes unseen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from net_agent.drivers.linux.guard import names
from net_agent.drivers.linux.guard.groups import group_chains, port_chains
from net_agent.drivers.linux.guard.plan import Plan
from net_agent.drivers.linux.guard.spoofing import DROP, spoofing_rules
from net_agent.drivers.linux.ruleset import Chain, Rule, Set, Table, regular

_PASSED = 0x8000_0000
_SENDER_BITS, _RECEIVER_BITS = 0x7FFF_0000, 0x0000_FFFF
# As `marks` gives them out.
MAX_MARK = 0x7FFF


class Backend(Protocol):
    """`shown_to_ip`: bridges must show their frames to the hooks of IP."""

    @property
    def name(self) -> str: ...

    @property
    def shown_to_ip(self) -> bool: ...

    def tables(self, plan: Plan) -> tuple[Table, ...]:
        """All of it. The first one has the map `taps`, whose keys are the taps that are guarded."""


class BridgeBackend:
    """See the module."""

    name = "bridge"
    shown_to_ip = False

    def tables(self, plan: Plan) -> tuple[Table, ...]:
        zones = frozenset(
            f"{device} : jump {names.zone_chain(network.bridge)}"
            for network in plan.networks
            for device in _devices_of(plan, network.network_id)
        )
        sets = (
            *_bridge_sets(plan),
            Set(names.NETWORKS, "ifname : verdict", zones),
            Set(names.SENDERS, "ifname : verdict", _jumps(plan, names.sending)),
            Set(names.RECEIVERS, "ifname : verdict", _jumps(plan, names.receiving)),
            *plan.member_sets(),
        )
        # To the tracker of connections, ARP is `invalid`.
        arp = Rule("ether type arp accept", "of no connection; whose it may be was asked before")
        chains = (
            *_bridge_base(plan),
            _base("zones", "prerouting", names.FIRST_PRIORITY + 1, f"iifname vmap @{names.NETWORKS}", "its zone"),
            _stateful("senders", 0, f"iifname vmap @{names.SENDERS}", arp),
            _stateful("receivers", 1, f"oifname vmap @{names.RECEIVERS}", arp),
            _base("strange", "forward", names.AFTER_IP_PRIORITY, _strange(), "no guest understands it"),
            *_zone_chains(plan),
            *_common(plan),
        )
        return (Table("bridge", names.TABLE, sets, chains),)


class IpBackend:
    """See the module."""

    name = "ip"
    shown_to_ip = True

    def tables(self, plan: Plan) -> tuple[Table, ...]:
        marks = Set(names.SENDERS, "ifname : verdict", _jumps(plan, names.marks_sender))
        receivers = Set(names.RECEIVERS, "ifname : verdict", _jumps(plan, names.marks_receiver))
        bridge = Table(
            "bridge",
            names.TABLE,
            (*_bridge_sets(plan), marks, receivers),
            (*_bridge_base(plan), *self._marking(), *self._mark_chains(plan)),
        )
        return bridge, self._of_ip(plan)

    def _marking(self) -> Iterator[Chain]:
        yield Chain(
            "marking",
            "filter",
            "forward",
            names.BEFORE_IP_PRIORITY,
            (
                Rule("meta mark set 0", "nobody's yet"),
                Rule(f"iifname vmap @{names.SENDERS}", "who sends"),
                Rule(f"oifname vmap @{names.RECEIVERS}", "who receives"),
            ),
        )
        yield Chain(
            "passed",
            "filter",
            "forward",
            names.AFTER_IP_PRIORITY,
            (
                Rule("meta mark 0 accept", "no guest's"),
                Rule(f"ether type {{ ip, ip6 }} meta mark < {_PASSED} {DROP}", "not seen by the hooks of IP"),
                Rule(_strange(), "no guest understands it"),
            ),
        )

    def _mark_chains(self, plan: Plan) -> Iterator[Chain]:
        for port in plan.ports:
            number = plan.marks[port.device]
            sender = Rule(f"meta mark set meta mark or {number << 16}", "its number")
            yield regular(names.marks_sender(port.device), (sender,))
            yield regular(
                names.marks_receiver(port.device), (Rule(f"meta mark set meta mark or {number}", "its number"),)
            )

    def _of_ip(self, plan: Plan) -> Table:
        networks = frozenset(f"{it.bridge} : jump {names.zone_chain(it.bridge)}" for it in plan.networks)
        sets = (
            Set(names.NETWORKS, "ifname : verdict", networks),
            Set(names.SENDERS, "mark : verdict", _marked(plan, names.sending, 16)),
            Set(names.RECEIVERS, "mark : verdict", _marked(plan, names.receiving, 0)),
            *plan.member_sets(),
        )
        nobodys = Rule("meta mark 0 accept", "no guest's")
        chains = (
            _base("zones", "prerouting", names.FIRST_PRIORITY, f"iifname vmap @{names.NETWORKS}", "its zone"),
            _stateful("senders", 0, f"meta mark and {_SENDER_BITS} vmap @{names.SENDERS}", nobodys),
            _stateful("receivers", 1, f"meta mark and {_RECEIVER_BITS} vmap @{names.RECEIVERS}", nobodys),
            Chain(
                "passed",
                "filter",
                "forward",
                2,
                (nobodys, Rule(f"meta mark set meta mark or {_PASSED}", "both ends let it pass")),
            ),
            *_zone_chains(plan),
            *_common(plan),
        )
        return Table("inet", names.TABLE, sets, chains)


def _bridge_sets(plan: Plan) -> tuple[Set, ...]:
    taps = {port.device for port in plan.ports}
    members = frozenset(taps.union(*plan.devices.values()))
    return (
        Set(names.MEMBERS, "ifname", members),
        Set(names.UPLINKS, "ifname", plan.uplinks),
        Set(names.SERVICES, "ifname", frozenset[str]().union(*plan.devices.values()) - plan.uplinks),
        Set(names.GUARDED, "ifname", frozenset(port.device for port in plan.ports if not port.unguarded)),
        Set(names.TAPS, "ifname : verdict", frozenset(f"{device} : jump {device}" for device in taps)),
    )


def _bridge_base(plan: Plan) -> Iterator[Chain]:
    yield Chain(
        "prerouting",
        "filter",
        "prerouting",
        names.FIRST_PRIORITY,
        (
            Rule(f"iifname vmap @{names.TAPS}", "each tap has a chain"),
            Rule(f"iifname @{names.UPLINKS} udp dport 67 {DROP}", "others' DHCP clients are not ours to answer"),
        ),
    )
    yield _base("input", "input", 0, f"iifname @{names.MEMBERS} {DROP}", "a bridge is no way into the host")
    yield Chain(
        "forward",
        "filter",
        "forward",
        names.BEFORE_ALL_PRIORITY,
        (
            Rule(
                f"iifname @{names.SERVICES} oifname @{names.UPLINKS} {DROP}",
                "services are never seen beyond this host",
            ),
            Rule(
                f"iifname @{names.UPLINKS} oifname @{names.SERVICES} {DROP}",
                "services answer guests of this host alone",
            ),
        ),
    )
    for port in plan.ports:
        yield regular(port.device, spoofing_rules(port))


def _common(plan: Plan) -> Iterator[Chain]:
    known = frozenset(plan.groups)
    for port in plan.ports:
        yield from port_chains(port, known, plan.limits)
    for group in plan.groups.values():
        yield from group_chains(group)


def _stateful(name: str, priority: int, dispatch: str, *before: Rule) -> Chain:
    rules = (
        *before,
        Rule(f"ct mark {names.ENDED_MARK} {DROP}", "its rule is gone"),
        Rule("ct state established,related accept", "answers to what passed"),
        Rule(dispatch, "each port has a chain"),
    )
    return Chain(name, "filter", "forward", priority, rules)


def _base(name: str, hook: str, priority: int, text: str, note: str) -> Chain:
    return Chain(name, "filter", hook, priority, (Rule(text, note),))


def _zone_chains(plan: Plan) -> Iterator[Chain]:
    for network in plan.networks:
        rule = Rule(f"ct zone set {plan.zones[network.network_id]}", "connections of one network")
        yield regular(names.zone_chain(network.bridge), (rule,))


def _strange() -> str:
    return f"oifname @{names.GUARDED} ether type != {{ ip, ip6, arp }} {DROP}"


def _devices_of(plan: Plan, network_id: str) -> frozenset[str]:
    taps = {port.device for port in plan.ports if port.network.network_id == network_id}
    return plan.devices.get(network_id, frozenset()) | taps


def _jumps(plan: Plan, chain: Callable[[str], str]) -> frozenset[str]:
    return frozenset(f"{port.device} : jump {chain(port.device)}" for port in plan.ports)


def _marked(plan: Plan, chain: Callable[[str], str], shift: int) -> frozenset[str]:
    return frozenset(f"{plan.marks[port.device] << shift} : jump {chain(port.device)}" for port in plan.ports)
