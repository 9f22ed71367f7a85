from __future__ import annotations

from dataclasses import replace
from typing import Any

from net_agent.drivers.linux import firewall_rules as rules
from net_agent.drivers.linux.firewall import Table, ensure_commands, parse_table, remove_commands
from net_agent.model import Port
from tests.unit.net_agent.samples import make_port


def kernel(*ports: Port, others: tuple[str, ...] = ("qdh1",), uplinks: tuple[str, ...] = ()) -> Table:
    """A table as it is after these ports were plugged."""
    base = {name: tuple(rule.comment for rule in chain) for name, chain in rules.base_rules().items()}
    chains = {port.device: tuple(rule.comment for rule in rules.port_rules(port)) for port in ports}
    devices = frozenset(port.device for port in ports)
    return Table(base | chains, devices | {*others, *uplinks}, frozenset(uplinks), devices, frozenset(others))


def kinds(commands: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """(verb, kind, name or chain) of each command."""
    found = []
    for command in commands:
        ((verb, body),) = command.items()
        ((kind, fields),) = body.items()
        found.append((verb, kind, fields.get("chain") or fields["name"]))
    return found


def test_what_is_right_needs_no_command() -> None:
    port = make_port(11)
    assert ensure_commands(kernel(port), [port], ["qdh1"], []) == []


def test_a_new_port_touches_nothing_of_the_others() -> None:
    first, second = make_port(11), make_port(12)
    commands = ensure_commands(kernel(first), [second], ["qdh1"], [])
    assert set(kinds(commands)) == {
        ("add", "element", "members"),
        ("add", "chain", second.device),
        ("flush", "chain", second.device),
        ("add", "rule", second.device),
        ("add", "element", "taps"),
    }
    # The chain is there before anything jumps to it.
    assert kinds(commands)[-1] == ("add", "element", "taps")


def test_an_empty_kernel_gets_the_base_first() -> None:
    port = make_port(11)
    commands = ensure_commands(Table(), [port], [], ["eth1"])
    assert kinds(commands)[0] == ("add", "table", "cirra")
    assert ("add", "element", "uplinks") in kinds(commands)


def test_a_changed_address_replaces_just_the_chain() -> None:
    port = make_port(11)
    moved = replace(port, addresses=make_port(12).addresses)
    commands = ensure_commands(kernel(port), [moved], [], [])
    assert {name for _, _, name in kinds(commands)} == {port.device}
    assert kinds(commands)[:2] == [("add", "chain", port.device), ("flush", "chain", port.device)]


def test_a_rule_that_somebody_took_out_is_missed() -> None:
    port = make_port(11)
    table = kernel(port)
    holed = replace(table, chains={**table.chains, port.device: table.chains[port.device][1:]})
    assert ensure_commands(holed, [port], [], []) != []


def test_removing_leaves_the_others() -> None:
    first, second = make_port(11), make_port(12)
    assert kinds(remove_commands(kernel(first, second), first.device, [])) == [
        ("delete", "element", "taps"),
        ("delete", "element", "members"),
        ("flush", "chain", first.device),
        ("delete", "chain", first.device),
    ]


def test_removing_what_is_absent_is_nothing() -> None:
    assert remove_commands(Table(), "tap1", ["qdh1"]) == []
    assert remove_commands(kernel(make_port(11)), "tap1", ["qdh9"]) == []


def test_the_last_one_takes_the_table_with_it() -> None:
    port = make_port(11)
    commands = remove_commands(kernel(port, uplinks=("eth1",)), port.device, ["qdh1", "eth1"])
    assert kinds(commands) == [("delete", "table", "cirra")]


def test_a_listing_is_read() -> None:
    listing = {
        "nftables": [
            {"metainfo": {"version": "1.0.6"}},
            {"table": {"family": "bridge", "name": "cirra", "handle": 1}},
            {"set": {"family": "bridge", "name": "members", "table": "cirra", "elem": ["tap1", "qdh1"]}},
            {"set": {"family": "bridge", "name": "uplinks", "table": "cirra"}},
            {"set": {"family": "bridge", "name": "services", "table": "cirra", "elem": ["qdh1"]}},
            {"map": {"name": "taps", "map": "verdict", "elem": [["tap1", {"jump": {"target": "tap1"}}]]}},
            {"chain": {"name": "tap1", "handle": 4}},
            {"rule": {"chain": "tap1", "comment": "one #1", "expr": [{"drop": None}]}},
            {"rule": {"chain": "tap1", "expr": [{"drop": None}]}},
        ]
    }
    assert parse_table(listing) == Table(
        {"tap1": ("one #1", "")}, frozenset({"tap1", "qdh1"}), frozenset(), frozenset({"tap1"}), frozenset({"qdh1"})
    )


def test_a_port_without_addresses_may_ask_for_one_and_nothing_else() -> None:
    notes = [rule.note for rule in rules.port_rules(make_port(11, addresses=()))]
    assert "DHCP client" in notes and "its own addresses" not in notes
    assert notes[-1] == "anything else"


def test_comments_fit_and_tell_rules_apart() -> None:
    # NFTNL_UDATA_COMMENT_MAXLEN is 128.
    first = [rule.comment for rule in rules.port_rules(make_port(11))]
    second = [rule.comment for rule in rules.port_rules(make_port(12))]
    assert all(len(comment) < 128 for comment in first)
    assert len(set(first)) == len(first) and first != second
