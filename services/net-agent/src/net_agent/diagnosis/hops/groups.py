"""Security groups: which rule lets pass what others want from the guest, or it from others, or that none does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_network

from net_agent.diagnosis.finding import Finding, State, broken, not_applicable, ok, unknown
from net_agent.diagnosis.path import GuestPath, Wish
from net_agent.model import IpAddress, IpNetwork, Port, SecurityGroup, SecurityGroupRule
from net_agent.specs.wanted import Wanted

_PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132, "icmp": 1}
_ICMPV6 = 58


@dataclass(frozen=True, slots=True)
class Traffic:
    """What wants to come in, or, `egress`, to get out. `dport`: None where the protocol has none."""

    protocol: int
    dport: int | None
    other_end: IpNetwork
    egress: bool = False

    def __str__(self) -> str:
        names = {number: name for name, number in _PROTOCOLS.items()} | {_ICMPV6: "icmp"}
        what = f"{names[self.protocol]}/{self.dport}" if self.dport else names[self.protocol]
        return f"{what} {'to' if self.egress else 'from'} {self.other_end}"

    @property
    def options(self) -> str:
        """Of `cirra security group rule create`: what makes a rule that lets just this pass."""
        protocol = "ipv6-icmp" if self.protocol == _ICMPV6 else str(self).split("/")[0].split()[0]
        port = f" --dst-port {self.dport}" if self.dport else ""
        way = "--egress" if self.egress else "--ingress"
        return f"{way} --protocol {protocol}{port} --remote-ip {self.other_end}"


def traffic_of(wish: Wish) -> Traffic:
    """`wish.to` isn't empty. From anywhere unless told: of IPv4."""
    source = ip_network(wish.from_cidr or "0.0.0.0/0")
    name, _, dport = wish.to.partition("/")
    return Traffic(_number(name, source.version), int(dport) if dport else None, source)


def _number(protocol: str, version: int) -> int:
    return _ICMPV6 if protocol == "icmp" and version == 6 else _PROTOCOLS[protocol]


async def groups(path: GuestPath) -> Finding:
    if not path.wish.to:
        return not_applicable("nothing in particular is wanted of the guest (--to)")
    return _judged(path, traffic_of(path.wish))


async def groups_out(path: GuestPath) -> Finding:
    """Whether anything gets out that every guest does not need: what the hops behind this one ask for."""
    wanted, port = path.ground.wanted, path.port
    if port.unguarded:
        return ok("port security is off: no rule is asked")
    found = [group for group_id in port.security_group_ids if (group := wanted.security_groups.get(group_id))]
    rules = [rule for group in found for rule in group.rules if rule.egress]
    if not rules:
        seen = "no rule of the port's security groups lets anything out but DHCP and metadata"
        return broken("NO_EGRESS_RULE", seen, f"{_rule_create(port)} --egress, or put the port in another group")
    return ok(f"{len(rules)} rules of the port's security groups let something out")


def kept_in(path: GuestPath, protocol: str, address: IpAddress, dport: int | None = None) -> Finding | None:
    """Why a probe of the guest's can't tell anything; None: its groups let it out."""
    finding = _judged(path, Traffic(_number(protocol, address.version), dport, ip_network(address), egress=True))
    return unknown(finding.reason, finding.observed) if finding.state is not State.OK else None


def _judged(path: GuestPath, traffic: Traffic) -> Finding:
    wanted, port = path.ground.wanted, path.port
    if port.unguarded:
        return ok("port security is off: no rule is asked")
    missing = [group_id for group_id in port.security_group_ids if group_id not in wanted.security_groups]
    if missing:
        seen = f"this host has not been told of security group {', '.join(missing)}, which the port is in"
        return broken("GROUP_NOT_HERE", seen, "see that the net-agent hears of changes: cirra service list, its log")
    found = [wanted.security_groups[group_id] for group_id in port.security_group_ids]
    return judge(traffic, found, wanted, f"{_rule_create(port)} {traffic.options}")


def _rule_create(port: Port) -> str:
    """Of a port in no group, the group is the operator's to choose."""
    group_id = next(iter(port.security_group_ids), None)
    if group_id is not None:
        return f"cirra security group rule create {group_id}"
    return f"cirra port set {port.port_id} --security-group GROUP, and cirra security group rule create GROUP"


def judge(traffic: Traffic, found: Iterable[SecurityGroup], wanted: Wanted, remedy: str) -> Finding:
    """What the rules make of the traffic (pure)."""
    partly = None
    for group in found:
        for rule in group.rules:
            if not _concerns(rule, traffic):
                continue
            remotes = list(_remotes(rule, traffic, wanted))
            if any(_covers(remote, traffic.other_end) for remote in remotes):
                return ok(f"rule {rule.rule_id} of group {group.group_id} lets {traffic} pass")
            if any(remote.overlaps(traffic.other_end) for remote in remotes):
                partly = f"rule {rule.rule_id} of group {group.group_id} lets only part of {traffic} pass"
    if partly is not None:
        return broken("GROUP_RULE_PARTIAL", partly, remedy)
    return broken("NO_GROUP_RULE", f"no rule of the port's security groups lets {traffic} pass", remedy)


def _concerns(rule: SecurityGroupRule, traffic: Traffic) -> bool:
    """All but the other end."""
    if rule.egress != traffic.egress or rule.ip_version != traffic.other_end.version:
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
