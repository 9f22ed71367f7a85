"""Which rules of a host's own may eat the frames of guests."""

from __future__ import annotations

from typing import Any

import pytest

from net_agent.diagnosis.hops.host_filter import accepting, suspects

FORWARD = ("ip", "filter", "FORWARD")


def chain(family: str = "ip", table: str = "filter", name: str = "FORWARD", **more: Any) -> dict[str, Any]:
    return {"chain": {"family": family, "table": table, "name": name, "hook": "forward", "policy": "accept", **more}}


def rule(*expressions: dict[str, Any], chain: str = "FORWARD") -> dict[str, Any]:
    return {"rule": {"family": "ip", "table": "filter", "chain": chain, "expr": [*expressions]}}


def xt(**target: str) -> dict[str, Any]:
    """As nft shows what iptables-nft has made of its own extensions."""
    return {"xt": target or None}


@pytest.mark.parametrize(
    ("ruleset", "found"),
    [
        ([], {}),
        ([chain()], {}),
        ([chain(policy="drop")], {FORWARD: "policy drop"}),
        ([chain(), rule({"counter": {}}, {"reject": {"type": "icmp"}})], {FORWARD: "reject"}),
        ([chain(), rule({"drop": None})], {FORWARD: "drop"}),
        ([chain(family="inet", table="firewalld", policy="drop")], {("inet", "firewalld", "FORWARD"): "policy drop"}),
        ([chain(family="bridge", policy="drop")], {("bridge", "filter", "FORWARD"): "policy drop"}),
        ([chain(), rule({"accept": None})], {}),
        # Of iptables-nft, by a nft that knows their names, and by one that doesn't.
        ([chain(), rule(xt(type="target", name="REJECT"))], {FORWARD: "reject"}),
        ([chain(), rule({"counter": None}, xt())], {FORWARD: "reject"}),
        ([chain(), rule(xt(type="match", name="physdev"), {"accept": None})], {}),
        # In a chain that it leads to, though these lead in a circle; not in one that it doesn't lead to.
        (
            [
                chain(),
                rule({"jump": {"target": "a"}}),
                rule({"goto": {"target": "b"}}, chain="a"),
                rule({"jump": {"target": "a"}}, chain="b"),
                rule({"drop": None}, chain="b"),
            ],
            {FORWARD: "drop"},
        ),
        ([chain(), rule({"jump": {"target": "a"}}), rule({"drop": None}, chain="b")], {}),
        # Of our own, of IPv6, and where nothing is forwarded.
        ([chain(family="bridge", table="cirra", policy="drop")], {}),
        ([chain(family="inet", table="cirra-router", policy="drop")], {}),
        ([chain(family="ip6", policy="drop")], {}),
        ([chain(hook="input", policy="drop"), rule({"drop": None})], {}),
    ],
)
def test_chains_that_may_reject(ruleset: list[dict[str, Any]], found: dict[tuple[str, str, str], str]) -> None:
    assert suspects(ruleset) == found


def test_without_br_netfilter_only_rules_of_bridges_count() -> None:
    assert suspects([chain(policy="drop")], ("bridge",)) == {}


def test_what_is_advised_is_of_the_chain_s_family() -> None:
    assert accepting(FORWARD) == 'nft insert rule ip filter FORWARD iifname "brq*" oifname "brq*" accept'
    assert accepting(("bridge", "own", "fwd")) == 'nft insert rule bridge own fwd meta ibrname "brq*" accept'
