"""Rules of security groups: what can be expressed, in one form; all else is refused with field and remedy."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cirra.network.v1 import security_group_pb2 as pb
from conductor.fields import Fields
from conductor.network.security_rules import MAX_PORT, PROTOCOLS, checked_rule, rule_spec, same
from core.errors import InvalidArgument
from tests.unit.conductor.facts import refused_fields

INGRESS, EGRESS = pb.TRAFFIC_DIRECTION_INGRESS, pb.TRAFFIC_DIRECTION_EGRESS


def rule(**fields: object) -> pb.SecurityGroupRule:
    return pb.SecurityGroupRule(**{"direction": INGRESS, **fields})  # type: ignore[arg-type]


def checked(**fields: object) -> pb.SecurityGroupRule:
    collected = Fields()
    found = checked_rule(collected, "rule", rule(**fields))
    collected.check()
    return found


def refused(**fields: object) -> set[str]:
    with pytest.raises(InvalidArgument) as caught:
        checked(**fields)
    return {field.removeprefix("rule.") for field in refused_fields(caught.value)}


@pytest.mark.parametrize(
    ("given", "protocol", "number", "ethertype"),
    [
        ({"protocol": "TCP"}, "tcp", 6, pb.ETHERTYPE_IPV4),
        ({"protocol": "6"}, "tcp", 6, pb.ETHERTYPE_IPV4),
        ({"protocol": "any"}, "", 0, pb.ETHERTYPE_IPV4),
        ({}, "", 0, pb.ETHERTYPE_IPV4),
        ({"protocol": "200"}, "200", 200, pb.ETHERTYPE_IPV4),
        ({"protocol": "icmp"}, "icmp", 1, pb.ETHERTYPE_IPV4),
        ({"protocol": "icmp", "ethertype": pb.ETHERTYPE_IPV6}, "ipv6-icmp", 58, pb.ETHERTYPE_IPV6),
        ({"protocol": "icmpv6", "ethertype": pb.ETHERTYPE_IPV6}, "ipv6-icmp", 58, pb.ETHERTYPE_IPV6),
        ({"protocol": "icmp", "remote_ip_prefix": "2001:db8::/32"}, "ipv6-icmp", 58, pb.ETHERTYPE_IPV6),
        ({"protocol": "udp", "remote_ip_prefix": "2001:DB8::/32"}, "udp", 17, pb.ETHERTYPE_IPV6),
        ({"protocol": "ah"}, "ah", 51, pb.ETHERTYPE_IPV4),
    ],
)
def test_protocols_and_families_have_one_form(
    given: dict[str, object], protocol: str, number: int, ethertype: int
) -> None:
    found = checked(**given)
    assert (found.protocol, found.ethertype) == (protocol, ethertype)
    assert (rule_spec(found).protocol, rule_spec(found).ip_version) == (number, int(ethertype))


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        # CVE-2019-9735, and its kin
        ({"protocol": "vrrp", "port_range_min": 1, "port_range_max": 2}, {"port_range_min"}),
        ({"protocol": "112", "port_range_min": 1, "port_range_max": 2}, {"port_range_min"}),
        ({"protocol": "", "port_range_min": 1, "port_range_max": 2}, {"port_range_min"}),
        ({"protocol": "icmp", "port_range_min": 8, "port_range_max": 8}, {"port_range_min"}),
        ({"protocol": "dccp", "port_range_min": 8, "port_range_max": 8}, {"port_range_min"}),
        ({"protocol": "tcp", "port_range_min": 80}, {"port_range_max"}),
        ({"protocol": "tcp", "port_range_max": 80}, {"port_range_min"}),
        ({"protocol": "tcp", "port_range_min": 81, "port_range_max": 80}, {"port_range_min"}),
        ({"protocol": "tcp", "port_range_min": -1, "port_range_max": 65536}, {"port_range_min", "port_range_max"}),
        ({"protocol": "tcp", "icmp_type": 8}, {"icmp_type"}),
        ({"icmp_type": 8}, {"icmp_type"}),
        ({"protocol": "icmp", "icmp_code": 0}, {"icmp_type"}),
        ({"protocol": "icmp", "icmp_type": 256, "icmp_code": -1}, {"icmp_type", "icmp_code"}),
        ({"protocol": "1", "ethertype": pb.ETHERTYPE_IPV6}, {"protocol"}),
        ({"protocol": "ipv6-icmp"}, {"protocol"}),
        ({"protocol": "44", "ethertype": pb.ETHERTYPE_IPV6}, {"protocol"}),
        ({"protocol": "ah", "ethertype": pb.ETHERTYPE_IPV6}, {"protocol"}),
        ({"protocol": "0"}, {"protocol"}),
        ({"protocol": "256"}, {"protocol"}),
        ({"protocol": "²"}, {"protocol"}),
        ({"protocol": "tcpp"}, {"protocol"}),
        ({"ethertype": pb.ETHERTYPE_IPV6, "remote_ip_prefix": "10.0.0.0/8"}, {"ethertype"}),
        ({"ethertype": 5}, {"ethertype"}),
        ({"remote_ip_prefix": "10.0.0.1/8"}, {"remote_ip_prefix"}),
        ({"remote_ip_prefix": "10.0.0/33"}, {"remote_ip_prefix"}),
        ({"remote_ip_prefix": "10.0.0.0/8", "remote_group": "g"}, {"remote_group"}),
        ({"direction": pb.TRAFFIC_DIRECTION_UNSPECIFIED}, {"direction"}),
        ({"direction": 7}, {"direction"}),
        ({"description": "x" * 300}, {"description"}),
    ],
)
def test_what_no_host_could_express_is_refused(given: dict[str, object], fields: set[str]) -> None:
    assert refused(**given) == fields


def test_a_range_with_host_bits_is_answered_with_the_right_one() -> None:
    with pytest.raises(InvalidArgument, match=r"give 10\.0\.0\.0/8"):
        checked(remote_ip_prefix="10.1.2.3/8")


def test_everywhere_is_the_same_as_no_range_and_a_name_as_its_number() -> None:
    assert same(checked(protocol="tcp", remote_ip_prefix="0.0.0.0/0"), checked(protocol="6", description="twice"))
    assert not same(checked(protocol="tcp"), checked(protocol="tcp", ethertype=pb.ETHERTYPE_IPV6))
    assert not same(checked(protocol="tcp"), checked(protocol="tcp", direction=EGRESS))
    assert not same(checked(protocol="icmp", icmp_type=0), checked(protocol="icmp"))


@given(
    protocol=st.sampled_from(["", *PROTOCOLS, "any", "icmpv6", *map(str, range(256))]),
    ethertype=st.sampled_from(pb.Ethertype.values()),
    ports=st.sampled_from([(0, 0), (1, MAX_PORT), (22, 22)]),
    icmp=st.sampled_from([{}, {"icmp_type": 0}, {"icmp_type": 8, "icmp_code": 0}]),
    prefix=st.sampled_from(["", "10.0.0.0/8", "::/0", "2001:db8::1"]),
)
def test_what_passes_says_no_more_than_a_host_can_do(
    protocol: str, ethertype: pb.Ethertype.ValueType, ports: tuple[int, int], icmp: dict[str, int], prefix: str
) -> None:
    try:
        found = checked(
            protocol=protocol,
            ethertype=ethertype,
            port_range_min=ports[0],
            port_range_max=ports[1],
            remote_ip_prefix=prefix,
            **icmp,
        )
    except InvalidArgument:
        return
    spec = rule_spec(found)
    assert not spec.port_min or spec.protocol in (6, 17, 132)
    assert not spec.HasField("icmp_type") or spec.protocol == {4: 1, 6: 58}[spec.ip_version]
    assert not spec.remote_cidr or (":" in spec.remote_cidr) == (spec.ip_version == 6)
    assert checked_again(found) == found


def checked_again(found: pb.SecurityGroupRule) -> pb.SecurityGroupRule:
    collected = Fields()
    return checked_rule(collected, "rule", found)
