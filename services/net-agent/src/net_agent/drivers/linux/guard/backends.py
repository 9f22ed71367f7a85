"""Two ways in which bridged frames come to the chains of ports and groups, by what the kernel can. Pure.

*Bridge*: connections are tracked by the bridge itself (nf_conntrack_bridge, Linux 5.3): all is one table.

*IP*: br_netfilter shows bridged frames to the hooks of IP, where connections are tracked. There the tap is not known
any more, so a mark tells it: the sender's number in the upper half, the receiver's in the lower. What has passed gets
one more mark, without which the bridge lets nothing on: where br_netfilter is switched off, no frame passes unseen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Protocol

from net_agent.drivers.linux.guard import names
from net_agent.drivers.linux.guard.addresses import MANY_PORTS
from net_agent.drivers.linux.guard.groups import counted_connections, group_chains, port_chains
from net_agent.drivers.linux.guard.plan import Plan
from net_agent.drivers.linux.guard.spoofing import DROP, spoofing_chain
from net_agent.drivers.linux.ruleset import Chain, Rule, Set, Table, regular

_PASSED = 0x8000_0000
_SENDER_BITS, _RECEIVER_BITS = 0x7FFF_0000, 0x0000_FFFF
# As `marks` gives them out.
MAX_MARK = 0x7FFF
_LET_PASS = f"meta mark set meta mark or {_PASSED}"
# Most packets: they are asked for no more than that, and by one of both ends.
_KNOWN, _KNOWN_NOTE = "ct state established,related", "answers to what passed"
_ENDED = Rule(f"ct mark {names.ENDED_MARK} {DROP}", "its rule is gone")
# What is cheap to ask is asked first.
_STRANGE = f"ether type != {{ ip, ip6, arp }} oifname @{names.GUARDED}"
_STRANGE_NOTE = "no guest understands it"
_APART_NOTES = "services are never seen beyond this host", "services answer guests of this host alone"


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
            Set(names.SERVICES, "ifname", _services(plan)),
            Set(names.NETWORKS, "ifname : verdict", zones),
            Set(names.SENDERS, "ifname : verdict", _jumps(plan, names.sending)),
            Set(names.RECEIVERS, "ifname : verdict", _jumps(plan, names.receiving)),
            counted_connections(),
            *plan.member_sets(),
        )
        # To the tracker of connections, ARP is `invalid`.
        arp = Rule("ether type arp accept", "of no connection; whose it may be was asked before")
        before = (arp, _ENDED, Rule(f"{_KNOWN} accept", _KNOWN_NOTE))
        apart = (
            Rule(f"iifname @{names.SERVICES} oifname @{names.UPLINKS} {DROP}", _APART_NOTES[0]),
            Rule(f"iifname @{names.UPLINKS} oifname @{names.SERVICES} {DROP}", _APART_NOTES[1]),
        )
        chains = (
            *_bridge_base(plan),
            _base("zones", "prerouting", names.FIRST_PRIORITY + 1, f"iifname vmap @{names.NETWORKS}", "its zone"),
            Chain("forward", "filter", "forward", names.BEFORE_ALL_PRIORITY, apart),
            _asking("senders", 0, f"iifname vmap @{names.SENDERS}", *before),
            _asking("receivers", 1, f"oifname vmap @{names.RECEIVERS}", *before),
            _base("strange", "forward", names.AFTER_IP_PRIORITY, f"{_STRANGE} {DROP}", _STRANGE_NOTE),
            *_zone_chains(plan),
            *_common(plan),
        )
        return (Table("bridge", names.TABLE, sets, chains),)


class IpBackend:
    """See the module."""

    name = "ip"
    shown_to_ip = True

    def tables(self, plan: Plan) -> tuple[Table, ...]:
        # Services are looked up along with taps: for what is neither from nor to one, they cost nothing.
        services = _services(plan)
        senders = {f"{device} : jump {names.marks_sender(device)}" for device in services}
        receivers = {f"{device} : jump {names.marks_receiver(device)}" for device in services}
        sets = (
            *_bridge_sets(plan),
            Set(names.SENDERS, "ifname : verdict", _jumps(plan, names.marks_sender) | senders),
            Set(names.RECEIVERS, "ifname : verdict", _jumps(plan, names.marks_receiver) | receivers),
        )
        apart = (chain for device in sorted(services) for chain in _chains_of_service(device))
        chains = (*_bridge_base(plan), *self._marking(), *self._mark_chains(plan), *apart)
        return Table("bridge", names.TABLE, sets, chains), self._of_ip(plan)

    def _marking(self) -> Iterator[Chain]:
        yield Chain(
            "forward",
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
                *_let_on(),
                Rule("meta mark 0 accept", "no guest's"),
                Rule(f"ether type {{ ip, ip6 }} {DROP}", "not seen by the hooks of IP"),
                Rule(f"{_STRANGE} {DROP}", _STRANGE_NOTE),
            ),
        )

    def _mark_chains(self, plan: Plan) -> Iterator[Chain]:
        for port in plan.ports:
            yield from _chains_of_mark(port.device, plan.marks[port.device])

    def _of_ip(self, plan: Plan) -> Table:
        networks = frozenset(f"{it.bridge} : jump {names.zone_chain(it.bridge)}" for it in plan.networks)
        sets = (
            Set(names.NETWORKS, "ifname : verdict", networks),
            Set(names.SENDERS, "mark : verdict", _marked(plan, names.sending, 16)),
            Set(names.RECEIVERS, "mark : verdict", _marked(plan, names.receiving, 0)),
            counted_connections(),
            *plan.member_sets(),
        )
        nobodys = Rule("meta mark 0 accept", "no guest's")
        known = Rule(f"{_KNOWN} {_LET_PASS} accept", _KNOWN_NOTE)
        answered = Rule(f"meta mark and {_PASSED} != 0 accept", _KNOWN_NOTE)
        # Here, and not by a hook of its own after it: what the receiver's chain drops, no mark brings back.
        last = Rule(f"meta mark != 0 {_LET_PASS}", "unless its receiver's chain drops it")
        chains = (
            _base("zones", "prerouting", names.FIRST_PRIORITY, f"iifname vmap @{names.NETWORKS}", "its zone"),
            _asking("senders", 0, f"meta mark and {_SENDER_BITS} vmap @{names.SENDERS}", nobodys, _ENDED, known),
            _asking("receivers", 1, f"meta mark and {_RECEIVER_BITS} vmap @{names.RECEIVERS}", answered, last),
            *_zone_chains(plan),
            *_common(plan),
        )
        return Table("inet", names.TABLE, sets, chains)


def _let_on() -> Iterator[Rule]:
    """What both ends let pass, without the mark: that would keep a tunnel from using the route that it knows
    (ip_tunnel_dst_cache_usable()), and the host's own rules of routing could take it for theirs. Nothing of ours reads
    it after this. By two rules, since to look a type up in a set costs more than to compare it."""
    for kind in ("ip", "ip6"):
        yield Rule(f"meta mark and {_PASSED} != 0 ether type {kind} meta mark set 0 accept", "both ends let it pass")


@lru_cache(MANY_PORTS)
def _chains_of_mark(device: str, number: int) -> tuple[Chain, Chain]:
    sender = Rule(f"meta mark set {number << 16}", "its number")
    receiver = Rule(f"meta mark set meta mark or {number}", "its number")
    return regular(names.marks_sender(device), (sender,)), regular(names.marks_receiver(device), (receiver,))


@lru_cache(MANY_PORTS)
def _chains_of_service(device: str) -> tuple[Chain, Chain]:
    outwards = Rule(f"oifname @{names.UPLINKS} {DROP}", _APART_NOTES[0])
    inwards = Rule(f"iifname @{names.UPLINKS} {DROP}", _APART_NOTES[1])
    return regular(names.marks_sender(device), (outwards,)), regular(names.marks_receiver(device), (inwards,))


def _bridge_sets(plan: Plan) -> tuple[Set, ...]:
    taps = {port.device for port in plan.ports}
    members = frozenset(taps.union(*plan.devices.values()))
    return (
        Set(names.MEMBERS, "ifname", members),
        Set(names.UPLINKS, "ifname", plan.uplinks),
        Set(names.GUARDED, "ifname", frozenset(port.device for port in plan.ports if not port.unguarded)),
        Set(names.TAPS, "ifname : verdict", frozenset(f"{device} : jump {device}" for device in taps)),
    )


def _services(plan: Plan) -> frozenset[str]:
    return frozenset[str]().union(*plan.devices.values()) - plan.uplinks


def _bridge_base(plan: Plan) -> Iterator[Chain]:
    yield Chain(
        "prerouting",
        "filter",
        "prerouting",
        names.FIRST_PRIORITY,
        (
            Rule(f"iifname vmap @{names.TAPS}", "each tap has a chain"),
            Rule(f"udp dport 67 iifname @{names.UPLINKS} {DROP}", "others' DHCP clients are not ours to answer"),
        ),
    )
    yield _base("input", "input", 0, f"iifname @{names.MEMBERS} {DROP}", "a bridge is no way into the host")
    for port in plan.ports:
        yield spoofing_chain(port)


def _common(plan: Plan) -> Iterator[Chain]:
    known = frozenset(plan.groups)
    for port in plan.ports:
        yield from port_chains(port, plan.marks[port.device], known, plan.limits)
    for group in plan.groups.values():
        yield from group_chains(group)


def _asking(name: str, priority: int, dispatch: str, *before: Rule) -> Chain:
    """One of two in a row: that of the sender, and that of the receiver. An `accept` ends only the one that it is in:
    if the first jumped to the second, the kernel would look at each pair of ports when it checks a change for loops."""
    return Chain(name, "filter", "forward", priority, (*before, Rule(dispatch, "each port has a chain")))


def _base(name: str, hook: str, priority: int, text: str, note: str) -> Chain:
    return Chain(name, "filter", hook, priority, (Rule(text, note),))


def _zone_chains(plan: Plan) -> Iterator[Chain]:
    for network in plan.networks:
        rule = Rule(f"ct zone set {plan.zones[network.network_id]}", "connections of one network")
        yield regular(names.zone_chain(network.bridge), (rule,))


def _devices_of(plan: Plan, network_id: str) -> frozenset[str]:
    taps = {port.device for port in plan.ports if port.network.network_id == network_id}
    return plan.devices.get(network_id, frozenset()) | taps


def _jumps(plan: Plan, chain: Callable[[str], str]) -> frozenset[str]:
    return frozenset(f"{port.device} : jump {chain(port.device)}" for port in plan.ports)


def _marked(plan: Plan, chain: Callable[[str], str], shift: int) -> frozenset[str]:
    return frozenset(f"{plan.marks[port.device] << shift} : jump {chain(port.device)}" for port in plan.ports)
