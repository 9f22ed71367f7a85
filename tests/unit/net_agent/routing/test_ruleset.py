from __future__ import annotations

from dataclasses import replace

from net_agent.drivers.linux.ruleset import Chain, Rule, Seen, Set, Table, difference, parse_listing

RULE = Rule("ip saddr @hosts drop", "strangers")
CHAIN = Chain("in", "filter", "prerouting", -300, (RULE,))
HOSTS = Set("hosts", "ipv4_addr", frozenset({"10.0.0.1", "10.0.0.0/24"}), interval=True)
NAMES = Set("names", "ipv4_addr : ipv4_addr", frozenset({"10.0.0.1 : 10.0.0.2"}))
TABLE = Table("inet", "t", (HOSTS, NAMES), (CHAIN,))
SEEN = Seen(
    sets={"hosts": HOSTS.elements, "names": NAMES.elements},
    hooks={"in": ("filter", "prerouting", -300, "accept")},
    comments={"in": (RULE.comment,)},
)


def test_what_is_there_needs_no_change() -> None:
    assert difference(TABLE, SEEN) is None


def test_a_table_that_is_missing_is_made_whole() -> None:
    due = difference(TABLE, None)
    assert due is not None
    assert due.script.splitlines() == [
        "add table inet t",
        "add chain inet t in { type filter hook prerouting priority -300; policy accept; }",
        "add set inet t hosts { type ipv4_addr; flags interval; elements = { 10.0.0.0/24, 10.0.0.1 } }",
        "add map inet t names { type ipv4_addr : ipv4_addr; elements = { 10.0.0.1 : 10.0.0.2 } }",
        f'add rule inet t in ip saddr @hosts drop comment "{RULE.comment}"',
    ]
    assert due.words == ("table inet t is missing",)


def test_what_rules_put_into_a_set_is_left_alone() -> None:
    busy = Set("busy", "ipv4_addr", frozenset(), dynamic=True)
    table = replace(TABLE, sets=(*TABLE.sets, busy))
    assert difference(table, replace(SEEN, sets={**SEEN.sets, "busy": frozenset({"10.0.0.9"})})) is None
    due = difference(table, None)
    assert due is not None and "add set inet t busy { type ipv4_addr; size 65535; flags dynamic; }" in due.script


def test_one_element_is_one_change() -> None:
    due = difference(replace(TABLE, sets=(HOSTS, replace(NAMES, elements=frozenset({"10.0.0.1 : 10.0.0.3"})))), SEEN)
    assert due is not None
    assert due.script.splitlines() == [
        "delete element inet t names { 10.0.0.1 : 10.0.0.2 }",
        "add element inet t names { 10.0.0.1 : 10.0.0.3 }",
    ]


def test_a_rule_that_differs_replaces_its_chain() -> None:
    other = Rule("ip saddr @hosts accept", "strangers")
    due = difference(replace(TABLE, chains=(replace(CHAIN, rules=(other,)),)), SEEN)
    assert due is not None and due.script.splitlines()[0] == "flush chain inet t in"
    assert other.comment in due.script and other.comment != RULE.comment


def test_another_hook_makes_the_table_anew_at_once() -> None:
    due = difference(replace(TABLE, chains=(replace(CHAIN, priority=-200),)), SEEN)
    assert due is not None
    assert due.script.splitlines()[:2] == ["delete table inet t", "add table inet t"]


def test_a_listing_is_read() -> None:
    listing = {
        "nftables": [
            {"metainfo": {}},
            {"set": {"name": "hosts", "elem": ["10.0.0.1", {"prefix": {"addr": "10.0.0.0", "len": 24}}]}},
            {"set": {"name": "pairs", "elem": [{"concat": ["eth0", "10.0.0.1"]}]}},
            {"set": {"name": "counted", "elem": [{"elem": {"val": "10.0.0.1", "timeout": 3}}]}},
            {"map": {"name": "names", "elem": [["10.0.0.1", "10.0.0.2"]]}},
            {"map": {"name": "empty"}},
            {"chain": {"name": "in", "type": "filter", "hook": "prerouting", "prio": -300, "policy": "accept"}},
            {"rule": {"chain": "in", "comment": RULE.comment}},
            {"rule": {"chain": "in"}},
        ]
    }
    seen = parse_listing(listing)
    assert seen.sets == {
        "hosts": {"10.0.0.1", "10.0.0.0/24"},
        "pairs": {"eth0 . 10.0.0.1"},
        "counted": {"10.0.0.1"},
        "names": {"10.0.0.1 : 10.0.0.2"},
        "empty": set(),
    }
    assert seen.hooks == SEEN.hooks and seen.comments == {"in": (RULE.comment, "")}
