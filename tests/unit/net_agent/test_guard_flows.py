"""Which connections go on when rules change, what a change of tables is, and which numbers networks have. Pure."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from net_agent.drivers.base import NetworkFault
from net_agent.drivers.linux.guard.flows import Flow, Verdicts, judge
from net_agent.drivers.linux.guard.kernel import Sight
from net_agent.drivers.linux.guard.numbers import Numbers
from net_agent.drivers.linux.ruleset import Chain, Rule, Seen, Set, Table, difference, parse_listing, regular, seen_of
from net_agent.model import Port, SecurityGroup
from tests.unit.net_agent.samples import make_port
from tests.unit.net_agent.test_guard_rules import FRONT, WEB, rule

OUTSIDE = ip_address("203.0.113.9")
TCP, UDP, ICMP = 6, 17, 1


def flow(**fields: Any) -> Flow:
    """From outside to port 80 of guest 11."""
    told: dict[str, Any] = {"source": OUTSIDE, "destination": ip_address("10.0.0.11"), "protocol": TCP}
    return Flow(**(told | {"source_port": 4000, "destination_port": 80} | fields))


def verdicts(*rules: Any, ports: tuple[Port, ...] = (), **members: Any) -> Verdicts:
    given = ports or (make_port(11, security_group_ids=(WEB,)),)
    return Verdicts(given, {WEB: SecurityGroup(WEB, tuple(rules))}, members.get("members", {}))


@pytest.mark.parametrize(
    ("let_in", "found"),
    [
        ({}, True),
        ({"protocol": TCP, "ports": (80, 80)}, True),
        ({"protocol": TCP, "ports": (81, 90)}, False),
        ({"protocol": UDP}, False),
        ({"ip_version": 6}, False),
        ({"egress": True}, False),
        ({"remote_cidr": ip_network("203.0.113.0/24")}, True),
        ({"remote_cidr": ip_network("203.0.114.0/24")}, False),
        ({"remote_group_id": FRONT}, False),
    ],
)
def test_a_flow_is_asked_the_question_of_its_first_packet(let_in: dict[str, Any], found: bool) -> None:
    assert verdicts(rule(**let_in)).allow(flow()) is found


def test_members_types_and_what_every_guest_needs() -> None:
    members = {FRONT: (ip_network("203.0.113.8/31"),)}
    assert verdicts(rule(remote_group_id=FRONT), members=members).allow(flow())
    echo = flow(protocol=ICMP, icmp_type=8, source_port=0, destination_port=0)
    assert verdicts(rule(protocol=ICMP, icmp_type=8)).allow(echo)
    assert not verdicts(rule(protocol=ICMP, icmp_type=8, icmp_code=1)).allow(echo)
    own = ip_address("10.0.0.11")
    assert verdicts().allow(flow(source=own, destination=ip_address("169.254.169.254")))
    assert not verdicts().allow(flow(source=own, destination=OUTSIDE))
    dhcp = flow(source=ip_address("10.0.0.2"), protocol=UDP, source_port=67, destination_port=68)
    assert verdicts().allow(dhcp) and not verdicts().allow(replace(dhcp, source=OUTSIDE))


def test_between_two_guests_both_have_to_agree_and_others_flows_are_not_ours() -> None:
    one, other = make_port(11, security_group_ids=(WEB,)), make_port(12, security_group_ids=(FRONT,))
    groups = {WEB: SecurityGroup(WEB, (rule(),)), FRONT: SecurityGroup(FRONT, ())}
    between = flow(source=ip_address("10.0.0.12"))
    assert not Verdicts((one, other), groups, {}).allow(between)
    assert Verdicts((one, replace(other, unguarded=True)), groups, {}).allow(between)
    assert Verdicts((other,), groups, {}).allow(flow(destination=ip_address("10.0.0.99")))


def test_tcp_is_ended_and_comes_back_others_are_deleted() -> None:
    going, ended, allowed = flow(), flow(source_port=1, ended=True), flow(destination_port=443, ended=True)
    datagrams = flow(protocol=UDP)
    sentence = judge([going, ended, allowed, datagrams], verdicts(rule(protocol=TCP, ports=(443, 443))))
    assert (sentence.end, sentence.revive, sentence.delete) == ((going,), (allowed,), (datagrams,))


# ---- tables

BASE = Chain("input", "filter", "input", 0, (Rule("iifname @members drop", "none"),))
TABLE = Table(
    "inet",
    "cirra",
    (Set("members", "ifname", frozenset({"tap1"})), Set("taps", "ifname : verdict", frozenset({"tap1 : jump one"}))),
    (BASE, regular("one", (Rule("accept", "yes"),))),
)


def seen_as(table: Table) -> Seen:
    return Seen(
        {each.name: each.elements for each in table.sets},
        {it.name: (it.kind, it.hook, it.priority, it.policy) if it.hook else (None,) * 4 for it in table.chains},
        {it.name: tuple(each.comment for each in it.rules) for it in table.chains},
    )


def test_what_is_right_is_no_difference_and_what_is_missing_is_made_whole() -> None:
    assert difference(TABLE, seen_as(TABLE)) is None
    missing = difference(TABLE, None)
    assert missing is not None and missing.names is None
    assert missing.script.index("add chain inet cirra one") < missing.script.index("jump one")


def test_a_chain_that_comes_is_there_before_it_is_jumped_to_and_goes_after() -> None:
    taps = Set("taps", "ifname : verdict", frozenset({"tap1 : jump one", "tap2 : jump two"}))
    more = replace(TABLE, sets=(TABLE.sets[0], taps), chains=(*TABLE.chains, regular("two", (Rule("drop", "no"),))))
    come = difference(more, seen_as(TABLE))
    assert come is not None
    lines = come.script.splitlines()
    assert lines[0] == "add chain inet cirra two" and lines[-1] == "add element inet cirra taps { tap2 : jump two }"
    assert not any(" one" in line for line in lines), "nothing of another is touched"
    assert come.names == {"two", "@taps"}
    gone = difference(TABLE, seen_as(more))
    assert gone is not None
    lines = gone.script.splitlines()
    assert lines[0].startswith("delete element") and lines[-1] == "delete chain inet cirra two"


def test_a_member_is_an_element() -> None:
    more = replace(TABLE, sets=(Set("members", "ifname", frozenset({"tap1", "tap2"})), TABLE.sets[1]))
    found = difference(more, seen_as(TABLE))
    assert found is not None and found.script == "add element inet cirra members { tap2 }\n"


def test_a_hook_that_is_another_makes_the_table_anew_at_once() -> None:
    other = replace(TABLE, chains=(replace(BASE, priority=5), *TABLE.chains[1:]))
    found = difference(other, seen_as(TABLE))
    assert found is not None and found.script.startswith("delete table inet cirra\nadd table inet cirra\n")


def test_a_listing_is_read() -> None:
    listing = {
        "nftables": [
            {"metainfo": {"version": "1.0.6"}},
            {"chain": {"name": "one", "type": "filter", "hook": "input", "prio": 0, "policy": "accept"}},
            {"rule": {"chain": "one", "comment": "x #1"}},
            {"set": {"name": "m", "elem": ["10.0.0.1", {"prefix": {"addr": "10.1.0.0", "len": 16}}]}},
            {"map": {"name": "t", "elem": [[65536, {"jump": {"target": "one"}}]]}},
        ]
    }
    assert parse_listing(listing) == Seen(
        {"m": frozenset({"10.0.0.1", "10.1.0.0/16"}), "t": frozenset({"65536 : jump one"})},
        {"one": ("filter", "input", 0, "accept")},
        {"one": ("x #1",)},
    )


def table_of(taps: frozenset[str], members: frozenset[str], **chains: str) -> Table:
    sets = (Set("taps", "ifname : verdict", taps), Set("members4-g", "ipv4_addr", members, interval=True))
    return Table("bridge", "cirra", sets, tuple(regular(name, [Rule(text, "")]) for name, text in chains.items()))


def test_a_tap_that_no_record_tells_of_is_left_alone() -> None:
    known = {"tap1": "a", "input": "e"}
    both = frozenset({"tap1 : jump tap1", "tap2 : jump tap2"})
    there = table_of(both, frozenset({"10.0.0.1"}), **known, **{"tap2": "b", "out-tap2": "c", "egress-g": "d"})
    sight = Sight({"bridge": seen_of(there), "inet": None}, 1)
    wanted = Table("bridge", "cirra", (Set("taps", "ifname : verdict", frozenset({"tap1 : jump tap1"})),), ())
    wanted = replace(wanted, chains=tuple(chain for chain in there.chains if chain.name in known))
    assert sight.due([wanted], frozenset({"tap2"})) == []
    [due] = sight.due([wanted])
    assert due.names is not None and {"tap2", "out-tap2", "egress-g"} <= due.names


def test_a_group_that_a_stray_and_a_port_have_is_right_when_the_port_has_all_of_it() -> None:
    """A stray may know members that no record tells of yet: those stay."""
    taps, strays = frozenset({"tap1 : jump tap1"}), frozenset({"tap2"})
    there = table_of(taps, frozenset({"10.0.0.1", "10.0.0.2"}), **{"tap1": "a", "tap2": "b", "egress-g": "d"})
    sight = Sight({"bridge": seen_of(there), "inet": None}, 1)
    assert sight.due([table_of(taps, frozenset({"10.0.0.1"}), **{"tap1": "a", "egress-g": "d"})], strays) == []
    [due] = sight.due([table_of(taps, frozenset({"10.0.0.3"}), **{"tap1": "a", "egress-g": "d"})], strays)
    assert due.script == "add element bridge cirra members4-g { 10.0.0.3 }\n"
    [due] = sight.due([table_of(taps, frozenset({"10.0.0.1"}), **{"tap1": "a", "egress-g": "new"})], strays)
    assert due.names == {"egress-g"}


# ---- numbers


def test_a_network_keeps_its_number_and_a_new_one_gets_the_lowest_free(tmp_path: Path) -> None:
    path = tmp_path / "networks" / "zones.json"
    assert Numbers(path, 3).of({"a", "b"}) == {"a": 1, "b": 2}
    again = Numbers(path, 3)
    assert again.of({"b", "c"}) == {"b": 2, "c": 1}
    assert again.of({"b", "c", "d"}) == {"b": 2, "c": 1, "d": 3}
    with pytest.raises(NetworkFault, match="at most 3"):
        again.of({"a", "b", "c", "d"})
    again.forget()
    assert not path.exists() and again.of({"z"}) == {"z": 1}
