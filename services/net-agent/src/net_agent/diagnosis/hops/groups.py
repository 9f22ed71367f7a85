"""Security groups: which rule lets pass what others want from the guest, or that none does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_network

from net_agent.diagnosis.finding import Finding, broken, not_applicable, ok
from net_agent.diagnosis.path import GuestPath, Wish
from net_agent.model import IpNetwork, SecurityGroup, SecurityGroupRule
from net_agent.specs.wanted import Wanted

_PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132, "icmp": 1}
_ICMPV6 = 58


@dataclass(frozen=True, slots=True)
class Traffic:
    """What wants to come in. `dport`: None where the protocol has none."""

    protocol: int
    dport: int | None
    source: IpNetwork

    def __str__(self) -> str:
        names = {number: name for name, number in _PROTOCOLS.items()} | {_ICMPV6: "icmp"}
        name = names[self.protocol]
        return f"{name}/{self.dport} from {self.source}" if self.dport else f"{name} from {self.source}"


def traffic_of(wish: Wish) -> Traffic:
    """`wish.to` isn't empty. From anywhere unless told: of IPv4."""
    source = ip_network(wish.from_cidr or "0.0.0.0/0")
    name, _, dport = wish.to.partition("/")
    protocol = _ICMPV6 if name == "icmp" and source.version == 6 else _PROTOCOLS[name]
    return Traffic(protocol, int(dport) if dport else None, source)


async def groups(path: GuestPath) -> Finding:
    if not path.wish.to:
        return not_applicable("nothing in particular is wanted of the guest (--to)")
    wanted, port = path.ground.wanted, path.port
    if port.unguarded:
        return ok("port security is off: no rule is asked")
    traffic = traffic_of(path.wish)
    missing = [group_id for group_id in port.security_group_ids if group_id not in wanted.security_groups]
    if missing:
        seen = f"this host has not been told of security group {', '.join(missing)}, which the port is in"
        return broken("GROUP_NOT_HERE", seen, "see that the net-agent hears of changes: cirra service list, its log")
    found = [wanted.security_groups[group_id] for group_id in port.security_group_ids]
    return judge(traffic, found, wanted)


def judge(traffic: Traffic, found: Iterable[SecurityGroup], wanted: Wanted) -> Finding:
    """What the rules make of the traffic (pure)."""
    remedy = f"cirra security group rule create GROUP --ingress with what lets {traffic} pass"
    partly = None
    for group in found:
        for rule in group.rules:
            if not _concerns(rule, traffic):
                continue
            remotes = list(_remotes(rule, traffic, wanted))
            if any(_covers(remote, traffic.source) for remote in remotes):
                return ok(f"rule {rule.rule_id} of group {group.group_id} lets {traffic} pass")
            if any(remote.overlaps(traffic.source) for remote in remotes):
                partly = f"rule {rule.rule_id} of group {group.group_id} lets only part of {traffic} pass"
    if partly is not None:
        return broken("GROUP_RULE_PARTIAL", partly, remedy)
    return broken("NO_GROUP_RULE", f"no rule of the port's security groups lets {traffic} pass", remedy)


def _concerns(rule: SecurityGroupRule, traffic: Traffic) -> bool:
    """All but the other end."""
    if rule.egress or rule.ip_version != traffic.source.version:
        return False
    if rule.protocol not in (None, traffic.protocol):
        return False
    if traffic.dport is None:
        return rule.icmp_type is None
    return rule.ports is None or rule.ports[0] <= traffic.dport <= rule.ports[1]


def _remotes(rule: SecurityGroupRule, traffic: Traffic, wanted: Wanted) -> Iterator[IpNetwork]:
    """The ends that a rule lets pass."""
    if rule.remote_group_id is not None:
        for member in wanted.group_members.values():
            if rule.remote_group_id in member.group_ids:
                yield from (ip_network(each) for each in member.addresses if each.version == rule.ip_version)
    elif rule.remote_cidr is not None:
        yield rule.remote_cidr
    else:
        yield ip_network("0.0.0.0/0" if rule.ip_version == 4 else "::/0")


def _covers(remote: IpNetwork, source: IpNetwork) -> bool:
    if isinstance(remote, IPv4Network) and isinstance(source, IPv4Network):
        return source.subnet_of(remote)
    if not isinstance(remote, IPv4Network) and not isinstance(source, IPv4Network):
        return source.subnet_of(remote)
    return False
