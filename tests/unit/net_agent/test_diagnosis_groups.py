"""Which rule lets pass what others want from a guest."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from core.ids import uuid7
from net_agent.diagnosis.finding import State
from net_agent.diagnosis.hops.groups import Traffic, judge, traffic_of
from net_agent.diagnosis.path import Wish
from net_agent.model import GroupMember, SecurityGroup, SecurityGroupRule
from net_agent.specs.wanted import Wanted

GROUP, MEMBERS = str(uuid7()), str(uuid7())


def rule(**changes: Any) -> SecurityGroupRule:
    """Lets ssh pass from anywhere, by IPv4."""
    fields: dict[str, Any] = {
        "rule_id": str(uuid7()),
        "egress": False,
        "ip_version": 4,
        "protocol": 6,
        "ports": (22, 22),
        "icmp_type": None,
        "icmp_code": None,
        "remote_cidr": None,
        "remote_group_id": None,
    }
    return SecurityGroupRule(**(fields | changes))


def verdict(wish: Wish, *rules: SecurityGroupRule, wanted: Wanted | None = None) -> tuple[State, str]:
    found = judge(traffic_of(wish), [SecurityGroup(GROUP, rules)], wanted or Wanted(), "")
    return found.state, found.reason


OK, NONE = (State.OK, ""), (State.BROKEN, "NO_GROUP_RULE")
OFFICE = ip_network("203.0.113.0/24")


@pytest.mark.parametrize(
    ("wish", "changes", "found"),
    [
        (Wish("tcp/22"), {}, OK),
        (Wish("tcp/22", "203.0.113.9"), {}, OK),
        (Wish("tcp/23"), {}, NONE),
        (Wish("tcp/23"), {"ports": (1, 1024)}, OK),
        (Wish("tcp/23"), {"ports": None}, OK),
        (Wish("udp/22"), {}, NONE),
        (Wish("udp/22"), {"protocol": None, "ports": None}, OK),
        (Wish("tcp/22"), {"egress": True}, NONE),
        (Wish("tcp/22", "2001:db8::/64"), {}, NONE),
        (Wish("tcp/22", "2001:db8::/64"), {"ip_version": 6}, OK),
        (Wish("tcp/22", "203.0.113.0/25"), {"remote_cidr": OFFICE}, OK),
        (Wish("tcp/22", "198.51.100.0/24"), {"remote_cidr": OFFICE}, NONE),
        (Wish("tcp/22", "203.0.0.0/16"), {"remote_cidr": OFFICE}, (State.BROKEN, "GROUP_RULE_PARTIAL")),
        (Wish("tcp/22"), {"remote_cidr": OFFICE}, (State.BROKEN, "GROUP_RULE_PARTIAL")),
        (Wish("icmp"), {}, NONE),
        (Wish("icmp"), {"protocol": 1, "ports": None}, OK),
        (Wish("icmp"), {"protocol": 1, "ports": None, "icmp_type": 8}, NONE),
        (Wish("icmp", "2001:db8::/64"), {"protocol": 58, "ports": None, "ip_version": 6}, OK),
    ],
)
def test_one_rule(wish: Wish, changes: dict[str, Any], found: tuple[State, str]) -> None:
    assert verdict(wish, rule(**changes)) == found


def test_members_of_a_group() -> None:
    wanted = Wanted()
    wanted.put(GroupMember(str(uuid7()), (MEMBERS,), (ip_address("10.0.0.5"), ip_address("fd00::5"))))
    of_group = rule(remote_group_id=MEMBERS)
    assert verdict(Wish("tcp/22", "10.0.0.5"), of_group, wanted=wanted) == OK
    assert verdict(Wish("tcp/22", "10.0.0.6"), of_group, wanted=wanted) == NONE
    assert verdict(Wish("tcp/22", "10.0.0.0/29"), of_group, wanted=wanted) == (State.BROKEN, "GROUP_RULE_PARTIAL")
    assert verdict(Wish("tcp/22", "10.0.0.5"), rule(remote_group_id=GROUP), wanted=wanted) == NONE


def test_the_rule_is_named() -> None:
    lets, other = rule(remote_cidr=OFFICE), rule(ports=(80, 80))
    found = judge(traffic_of(Wish("tcp/22", "203.0.113.9")), [SecurityGroup(GROUP, (other, lets))], Wanted(), "")
    assert lets.rule_id in found.observed and GROUP in found.observed
    assert verdict(Wish("tcp/22")) == NONE


def test_what_a_guest_wants_of_others() -> None:
    echo = Traffic(1, None, ip_network("198.51.100.7"), egress=True)
    out, into = rule(egress=True, protocol=None, ports=None), rule(protocol=None, ports=None)
    assert judge(echo, [SecurityGroup(GROUP, (into,))], Wanted(), "").reason == "NO_GROUP_RULE"
    assert judge(echo, [SecurityGroup(GROUP, (into, out))], Wanted(), "").state is State.OK


@pytest.mark.parametrize(
    ("traffic", "options"),
    [
        (
            traffic_of(Wish("tcp/22", "203.0.113.0/24")),
            "--ingress --protocol tcp --dst-port 22 --remote-ip 203.0.113.0/24",
        ),
        (traffic_of(Wish("icmp", "2001:db8::/64")), "--ingress --protocol ipv6-icmp --remote-ip 2001:db8::/64"),
        (
            Traffic(17, 53, ip_network("10.0.0.2"), egress=True),
            "--egress --protocol udp --dst-port 53 --remote-ip 10.0.0.2/32",
        ),
    ],
)
def test_the_remedy_is_a_rule_that_lets_just_that_pass(traffic: Traffic, options: str) -> None:
    assert traffic.options == options
