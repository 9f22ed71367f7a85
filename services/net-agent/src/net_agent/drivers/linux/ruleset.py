"""A table of nftables as it shall be, compared with the kernel's, and changed by difference at once (nft(8)).

Pure. A rule's comment ends in a digest of its text, which is how a missing, strange or older rule is noticed; elements
of sets and maps are compared one by one, so that a change for one address touches nothing else. Rules are text in nft's
own language: what goes into it are typed addresses and names of our own making, nothing from the wire.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_DYNAMIC_SIZE = 65_535


@dataclass(frozen=True, slots=True)
class Rule:
    """`note`: why, for who lists the rules; it ends up in the comment."""

    text: str
    note: str

    @property
    def comment(self) -> str:
        return f"{self.note} #{hashlib.sha256(self.text.encode()).hexdigest()[:8]}"


@dataclass(frozen=True, slots=True)
class Chain:
    """A base chain. `priority`: as the hook's number."""

    name: str
    kind: str
    hook: str
    priority: int
    rules: tuple[Rule, ...]
    policy: str = "accept"


@dataclass(frozen=True, slots=True)
class Set:
    """`type`: as nft has it: "ipv4_addr", "ifname . ipv4_addr"; a map's: "ipv4_addr : ipv4_addr".

    `elements`: as nft has them: "10.0.0.0/24", "eth0 . 10.0.0.1", "10.0.0.1 : 10.0.0.2". `dynamic`: rules put them
    there, and they are none of our business.
    """

    name: str
    type: str
    elements: frozenset[str]
    interval: bool = False
    dynamic: bool = False

    @property
    def kind(self) -> str:
        return "map" if ":" in self.type.split() else "set"


@dataclass(frozen=True, slots=True)
class Table:
    family: str
    name: str
    sets: tuple[Set, ...]
    chains: tuple[Chain, ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """What the kernel has of a table. By a chain's name: (kind, hook, priority, policy); the comments of its rules."""

    sets: Mapping[str, frozenset[str]] = field(default_factory=dict)
    hooks: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    comments: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Difference:
    """`script`: what nft(8) is to run, as one transaction; `words`: what was wrong."""

    script: str
    words: tuple[str, ...]


def parse_listing(listing: Mapping[str, Any]) -> Seen:
    """nft's `-j list table` → what of it matters here."""
    sets: dict[str, frozenset[str]] = {}
    hooks: dict[str, tuple[Any, ...]] = {}
    comments: dict[str, list[str]] = {}
    for entry in listing["nftables"]:
        if chain := entry.get("chain"):
            hooks[chain["name"]] = tuple(chain.get(key) for key in ("type", "hook", "prio", "policy"))
            comments[chain["name"]] = []
        elif rule := entry.get("rule"):
            comments[rule["chain"]].append(rule.get("comment", ""))
        elif named := entry.get("set") or entry.get("map"):
            sets[named["name"]] = frozenset(_element(each) for each in named.get("elem", []))
    return Seen(sets, hooks, {name: tuple(each) for name, each in comments.items()})


def _element(value: Any) -> str:
    """An element as JSON → as text."""
    if isinstance(value, list):
        return " : ".join(map(_element, value))
    if isinstance(value, dict):
        if concatenation := value.get("concat"):
            return " . ".join(map(_element, concatenation))
        if prefix := value.get("prefix"):
            return f"{prefix['addr']}/{prefix['len']}"
        if plain := value.get("elem"):
            return _element(plain["val"])
    return str(value)


def difference(wanted: Table, seen: Seen | None) -> Difference | None:
    """What brings the kernel from `seen` (None: there is no such table) to `wanted`; None: it is there already."""
    if seen is None:
        return Difference(_whole(wanted), (f"table {wanted.family} {wanted.name} is missing",))
    if not _same_shape(wanted, seen):
        # Hooks and sets can't be changed in place; within one transaction no packet sees the moment between.
        header = f"delete table {wanted.family} {wanted.name}\n"
        return Difference(header + _whole(wanted), (f"table {wanted.family} {wanted.name} has another shape",))
    lines: list[str] = []
    words: list[str] = []
    for each in wanted.sets:
        if not each.dynamic:
            _change_elements(wanted, each, seen.sets[each.name], lines, words)
    for chain in wanted.chains:
        if seen.comments[chain.name] != tuple(rule.comment for rule in chain.rules):
            lines += [f"flush chain {wanted.family} {wanted.name} {chain.name}", *_rules(wanted, chain)]
            words.append(f"the rules of chain {wanted.name} {chain.name} are not as they should be")
    return Difference("\n".join(lines) + "\n", tuple(words)) if lines else None


def _change_elements(table: Table, wanted: Set, present: frozenset[str], lines: list[str], words: list[str]) -> None:
    where = f"{table.family} {table.name} {wanted.name}"
    # A key of a map can't get another value in place.
    for verb, elements in (("delete", present - wanted.elements), ("add", wanted.elements - present)):
        if elements:
            lines.append(f"{verb} element {where} {{ {', '.join(sorted(elements))} }}")
            state = "has too much" if verb == "delete" else "lacks"
            words.append(f"{table.name} {wanted.name} {state}: {', '.join(sorted(elements))}")


def _same_shape(wanted: Table, seen: Seen) -> bool:
    hooks = {chain.name: (chain.kind, chain.hook, chain.priority, chain.policy) for chain in wanted.chains}
    return dict(seen.hooks) == hooks and seen.sets.keys() == {each.name for each in wanted.sets}


def _whole(table: Table) -> str:
    where = f"{table.family} {table.name}"
    lines = [f"add table {where}"]
    for each in table.sets:
        flags = " flags interval;" if each.interval else ""
        flags += f" size {_DYNAMIC_SIZE}; flags dynamic;" if each.dynamic else ""
        elements = f" elements = {{ {', '.join(sorted(each.elements))} }}" if each.elements else ""
        lines.append(f"add {each.kind} {where} {each.name} {{ type {each.type};{flags}{elements} }}")
    for chain in table.chains:
        hook = f"type {chain.kind} hook {chain.hook} priority {chain.priority}; policy {chain.policy};"
        lines += [f"add chain {where} {chain.name} {{ {hook} }}", *_rules(table, chain)]
    return "\n".join(lines) + "\n"


def _rules(table: Table, chain: Chain) -> list[str]:
    where = f"{table.family} {table.name} {chain.name}"
    return [f'add rule {where} {rule.text} comment "{rule.comment}"' for rule in chain.rules]
