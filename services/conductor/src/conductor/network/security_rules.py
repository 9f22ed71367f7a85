"""Rules of security groups: checked so that each can be expressed on every host, and brought into one form. Pure.

What a host could only refuse, or would have to leave out, is refused here (CVE-2019-9735: a rule with ports and a
protocol that has none kept all later rules of a host from being applied).
"""

from __future__ import annotations

from ipaddress import AddressValueError, IPv4Network, IPv6Network, NetmaskValueError, ip_network

from cirra.agent.v1 import fabric_pb2 as agent
from cirra.network.v1 import security_group_pb2 as public
from conductor.fields import Fields

# IANA, Assigned Internet Protocol Numbers; the names that OpenStack knows.
PROTOCOLS = {
    **{"icmp": 1, "igmp": 2, "ipip": 4, "tcp": 6, "egp": 8, "udp": 17, "dccp": 33, "rsvp": 46, "gre": 47, "esp": 50},
    **{"ah": 51, "ipv6-icmp": 58, "ospf": 89, "vrrp": 112, "pgm": 113, "sctp": 132, "udplite": 136},
}
_NAMES = {number: name for name, number in PROTOCOLS.items()}
_ALIASES = {"icmpv6": "ipv6-icmp", "any": ""}
WITH_PORTS = ("tcp", "udp", "sctp")
ICMP = {public.ETHERTYPE_IPV4: "icmp", public.ETHERTYPE_IPV6: "ipv6-icmp"}
# RFC 8200, section 4: what stands between the header and the protocol, and is skipped by whoever looks for that.
_IPV6_EXTENSIONS = frozenset({43, 44, 51, 59, 60})
MAX_PORT, MAX_ICMP = 65_535, 255
_EVERYWHERE = ("0.0.0.0/0", "::/0")


def checked_rule(fields: Fields, field: str, wanted: public.SecurityGroupRule) -> public.SecurityGroupRule:
    """The rule in its one form: the ethertype told, the protocol by its name where it has one, the range as
    ipaddress writes it. What can't be expressed is refused in `fields`, below `field`.
    """
    rule = public.SecurityGroupRule(
        uid=wanted.uid,
        description=wanted.description,
        direction=wanted.direction,
        ethertype=wanted.ethertype,
        port_range_min=wanted.port_range_min,
        port_range_max=wanted.port_range_max,
        icmp_type=wanted.icmp_type if wanted.HasField("icmp_type") else None,
        icmp_code=wanted.icmp_code if wanted.HasField("icmp_code") else None,
        remote_group=wanted.remote_group,
    )
    fields.title(f"{field}.description", wanted.description, required=False)
    if wanted.direction not in (public.TRAFFIC_DIRECTION_INGRESS, public.TRAFFIC_DIRECTION_EGRESS):
        fields.refuse(f"{field}.direction", "give INGRESS (to the guest) or EGRESS (from the guest)")
    _check_remote(fields, field, wanted, rule)
    rule.protocol = _protocol(fields, f"{field}.protocol", wanted.protocol, rule.ethertype)
    _check_ports(fields, field, rule)
    _check_icmp(fields, field, rule)
    return rule


def same(one: public.SecurityGroupRule, other: public.SecurityGroupRule) -> bool:
    """Whether two rules, both in their one form, let the same pass."""
    return _meaning(one) == _meaning(other)


def default_rules(own_group_id: str = "") -> list[public.SecurityGroupRule]:
    """Everything out, in both families; everything in from members of that group, if it is given. Without uids."""
    return [
        public.SecurityGroupRule(direction=direction, ethertype=ethertype, remote_group=remote)
        for direction, remote in (
            (public.TRAFFIC_DIRECTION_EGRESS, ""),
            *([(public.TRAFFIC_DIRECTION_INGRESS, own_group_id)] if own_group_id else []),
        )
        for ethertype in (public.ETHERTYPE_IPV4, public.ETHERTYPE_IPV6)
    ]


def rule_spec(rule: public.SecurityGroupRule) -> agent.SecurityGroupRuleSpec:
    """As hosts are told of it."""
    return agent.SecurityGroupRuleSpec(
        rule_id=rule.uid,
        egress=rule.direction == public.TRAFFIC_DIRECTION_EGRESS,
        ip_version=rule.ethertype,
        protocol=protocol_number(rule.protocol),
        port_min=rule.port_range_min,
        port_max=rule.port_range_max,
        icmp_type=rule.icmp_type if rule.HasField("icmp_type") else None,
        icmp_code=rule.icmp_code if rule.HasField("icmp_code") else None,
        remote_cidr=rule.remote_ip_prefix,
        remote_group_id=rule.remote_group,
    )


def protocol_number(protocol: str) -> int:
    """Of a rule in its one form; 0: any."""
    return PROTOCOLS[protocol] if protocol in PROTOCOLS else int(protocol or 0)


def _meaning(rule: public.SecurityGroupRule) -> tuple[object, ...]:
    spec = rule_spec(rule)
    spec.rule_id = ""
    if spec.remote_cidr in _EVERYWHERE:
        spec.remote_cidr = ""
    return (spec.SerializeToString(deterministic=True),)


def _check_remote(fields: Fields, field: str, wanted: public.SecurityGroupRule, rule: public.SecurityGroupRule) -> None:
    """Sets range and ethertype."""
    if wanted.ethertype not in public.Ethertype.values():
        fields.refuse(f"{field}.ethertype", "give IPV4 or IPV6")
    if wanted.remote_ip_prefix and wanted.remote_group:
        fields.refuse(f"{field}.remote_group", "remote_ip_prefix is given too: give one of them; or make two rules")
    found = _range(fields, f"{field}.remote_ip_prefix", wanted.remote_ip_prefix) if wanted.remote_ip_prefix else None
    if found is not None:
        rule.remote_ip_prefix = str(found)
        of_range = public.ETHERTYPE_IPV4 if found.version == 4 else public.ETHERTYPE_IPV6
        rule.ethertype = rule.ethertype or of_range
        if rule.ethertype != of_range:
            fields.refuse(f"{field}.ethertype", f"{found} is an IPv{found.version} range: give IPV{found.version}")
    rule.ethertype = rule.ethertype or public.ETHERTYPE_IPV4


def _range(fields: Fields, field: str, text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(text)
    except (AddressValueError, NetmaskValueError):
        pass
    except ValueError:
        try:
            fields.refuse(field, f"{text!r} has host bits set: give {ip_network(text, strict=False)}")
            return None
        except ValueError:
            pass
    fields.refuse(field, f"{text!r} is no range of addresses: give one such as 203.0.113.0/24 or 2001:db8::/32")
    return None


def _protocol(fields: Fields, field: str, text: str, ethertype: public.Ethertype.ValueType) -> str:
    name = text.strip().lower()
    name = _ALIASES.get(name, name)
    if not name:
        return ""
    if name == "icmp":
        # What people mean by it; its number is taken at its word.
        return ICMP.get(ethertype, name)
    if name.isascii() and name.isdigit() and 1 <= int(name) <= 255:
        number = int(name)
    elif name in PROTOCOLS:
        number = PROTOCOLS[name]
    else:
        fields.refuse(
            field, f"{text!r} is no protocol: give a number from 1 to 255, any, or one of {', '.join(PROTOCOLS)}"
        )
        return ""
    if ethertype == public.ETHERTYPE_IPV6 and number in _IPV6_EXTENSIONS:
        fields.refuse(
            field, f"{text} is an extension header in IPv6, and no protocol: give what comes after it, or any"
        )
    for family, icmp in ICMP.items():
        if number == PROTOCOLS[icmp] and family != ethertype:
            fields.refuse(field, f"{text} does not go with IPv{ethertype}: give {ICMP.get(ethertype, 'icmp')}")
    return _NAMES.get(number, str(number))


def _check_ports(fields: Fields, field: str, rule: public.SecurityGroupRule) -> None:
    low, high = rule.port_range_min, rule.port_range_max
    if not low and not high:
        return
    if rule.protocol not in WITH_PORTS:
        if rule.protocol in ICMP.values():
            remedy = "give icmp_type and icmp_code instead"
        else:
            remedy = f"leave them out, or give one of {', '.join(WITH_PORTS)} as protocol"
        fields.refuse(f"{field}.port_range_min", f"protocol {rule.protocol or 'any'} has no ports: {remedy}")
        return
    for name, port in (("port_range_min", low), ("port_range_max", high)):
        if not 1 <= port <= MAX_PORT:
            fields.refuse(f"{field}.{name}", f"{port} is out of range: give 1 to {MAX_PORT}; both of the two, or none")
    if low > high >= 1:
        fields.refuse(f"{field}.port_range_min", f"{low} is above {high}: exchange them")


def _check_icmp(fields: Fields, field: str, rule: public.SecurityGroupRule) -> None:
    for name in ("icmp_type", "icmp_code"):
        if not rule.HasField(name):
            continue
        value = getattr(rule, name)
        if rule.protocol not in ICMP.values():
            fields.refuse(f"{field}.{name}", f"protocol {rule.protocol or 'any'} has none: give icmp, or leave it out")
        elif not 0 <= value <= MAX_ICMP:
            fields.refuse(f"{field}.{name}", f"{value} is out of range: give 0 to {MAX_ICMP}")
    if rule.HasField("icmp_code") and not rule.HasField("icmp_type"):
        fields.refuse(f"{field}.icmp_type", "a code is its type's: give the type too")
