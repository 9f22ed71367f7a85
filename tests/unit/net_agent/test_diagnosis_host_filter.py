"""Which rules of a host's own may eat the frames of guests."""

from __future__ import annotations

from typing import Any

import pytest

from net_agent.diagnosis.hops.host_filter import suspects


def chain(family: str = "ip", table: str = "filter", name: str = "FORWARD", **more: Any) -> dict[str, Any]:
    return {"chain": {"family": family, "table": table, "name": name, "hook": "forward", "policy": "accept", **more}}


def rule(*expressions: dict[str, Any], family: str = "ip", table: str = "filter") -> dict[str, Any]:
    return {"rule": {"family": family, "table": table, "chain": "FORWARD", "expr": [*expressions]}}


@pytest.mark.parametrize(
    ("ruleset", "found"),
    [
        ([], []),
        ([chain()], []),
        ([chain(policy="drop")], ["ip filter FORWARD (policy drop)"]),
        ([chain(), rule({"counter": {}}, {"reject": {"type": "icmp"}})], ["ip filter FORWARD (reject)"]),
        ([chain(), rule({"drop": None})], ["ip filter FORWARD (drop)"]),
        ([chain(family="inet", table="firewalld", policy="drop")], ["inet firewalld FORWARD (policy drop)"]),
        ([chain(family="bridge", policy="drop")], ["bridge filter FORWARD (policy drop)"]),
        ([chain(), rule({"accept": None})], []),
        # Of our own, of IPv6, and where nothing is forwarded.
        ([chain(family="bridge", table="cirra", policy="drop")], []),
        ([chain(family="inet", table="cirra-router", policy="drop")], []),
        ([chain(family="ip6", policy="drop")], []),
        ([chain(hook="input", policy="drop"), rule({"drop": None})], []),
    ],
)
def test_chains_that_may_reject(ruleset: list[dict[str, Any]], found: list[str]) -> None:
    assert suspects(ruleset) == found


def test_without_br_netfilter_only_rules_of_bridges_count() -> None:
    assert suspects([chain(policy="drop")], ("bridge",)) == []
