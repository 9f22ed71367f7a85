"""Security groups of this host's ports, and the members of the groups that their rules name."""

from __future__ import annotations

from dataclasses import dataclass

from cirra.agent.v1 import fabric_pb2
from net_agent.model.checker import Checker, IpAddress, IpNetwork


@dataclass(frozen=True, slots=True)
class SecurityGroupRule:
    """What it lets pass. `ports`: first and last, both included; None: any, as everywhere here.

    `egress`: from the guest. `ip_version`: 4 or 6. `protocol`: IANA's number.
    """

    rule_id: str
    egress: bool
    ip_version: int
    protocol: int | None
    ports: tuple[int, int] | None
    icmp_type: int | None
    icmp_code: int | None
    remote_cidr: IpNetwork | None
    remote_group_id: str | None


@dataclass(frozen=True, slots=True)
class SecurityGroup:
    group_id: str
    rules: tuple[SecurityGroupRule, ...]


@dataclass(frozen=True, slots=True)
class GroupMember:
    """A port's addresses, and the groups that it is in."""

    port_id: str
    group_ids: tuple[str, ...]
    addresses: tuple[IpAddress, ...]


def security_group_from_spec(spec: fabric_pb2.SecurityGroupSpec) -> SecurityGroup:
    """Raises InvalidArgument, naming each bad field."""
    check = Checker()
    group = SecurityGroup(
        group_id=check.uuid("security_group.group_id", spec.group_id),
        rules=tuple(_rule(rule, check) for rule in spec.rules),
    )
    check.finish()
    return group


def _rule(spec: fabric_pb2.SecurityGroupRuleSpec, check: Checker) -> SecurityGroupRule:
    field = "security_group.rules"
    if spec.ip_version not in (4, 6):
        check.violate(f"{field}.ip_version", f"{spec.ip_version} is neither 4 nor 6")
    ports = None
    if spec.port_min or spec.port_max:
        ports = (
            check.between(f"{field}.port_min", spec.port_min, 0, 65_535),
            check.between(f"{field}.port_max", spec.port_max, spec.port_min, 65_535),
        )
    return SecurityGroupRule(
        rule_id=check.uuid(f"{field}.rule_id", spec.rule_id),
        egress=spec.egress,
        ip_version=spec.ip_version,
        protocol=check.between(f"{field}.protocol", spec.protocol, 0, 255) or None,
        ports=ports,
        icmp_type=check.between(f"{field}.icmp_type", spec.icmp_type, 0, 255) if spec.HasField("icmp_type") else None,
        icmp_code=check.between(f"{field}.icmp_code", spec.icmp_code, 0, 255) if spec.HasField("icmp_code") else None,
        remote_cidr=check.network(f"{field}.remote_cidr", spec.remote_cidr) if spec.remote_cidr else None,
        remote_group_id=check.uuid(f"{field}.remote_group_id", spec.remote_group_id) if spec.remote_group_id else None,
    )


def security_group_to_spec(group: SecurityGroup) -> fabric_pb2.SecurityGroupSpec:
    return fabric_pb2.SecurityGroupSpec(group_id=group.group_id, rules=[_rule_to_spec(rule) for rule in group.rules])


def _rule_to_spec(rule: SecurityGroupRule) -> fabric_pb2.SecurityGroupRuleSpec:
    port_min, port_max = rule.ports or (0, 0)
    return fabric_pb2.SecurityGroupRuleSpec(
        rule_id=rule.rule_id,
        egress=rule.egress,
        ip_version=rule.ip_version,
        protocol=rule.protocol or 0,
        port_min=port_min,
        port_max=port_max,
        icmp_type=rule.icmp_type,
        icmp_code=rule.icmp_code,
        remote_cidr=str(rule.remote_cidr or ""),
        remote_group_id=rule.remote_group_id or "",
    )


def group_member_from_spec(spec: fabric_pb2.GroupMemberSpec) -> GroupMember:
    """Raises InvalidArgument, naming each bad field."""
    check = Checker()
    member = GroupMember(
        port_id=check.uuid("group_member.port_id", spec.port_id),
        group_ids=tuple(check.uuid("group_member.group_ids", text) for text in spec.group_ids),
        addresses=tuple(check.address("group_member.ip_addresses", text) for text in spec.ip_addresses),
    )
    check.finish()
    return member


def group_member_to_spec(member: GroupMember) -> fabric_pb2.GroupMemberSpec:
    return fabric_pb2.GroupMemberSpec(
        port_id=member.port_id,
        group_ids=member.group_ids,
        ip_addresses=[str(address) for address in member.addresses],
    )
