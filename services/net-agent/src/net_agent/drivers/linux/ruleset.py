"""A table of nftables as it shall be, compared with the kernel's, and changed by difference at once (nft(8)).

Pure. A rule's comment ends in a digest of its text, which is how a missing, strange or older rule is noticed; elements
of sets and maps are compared one by one, so that a change for one address touches nothing else. Rules are text in nft's
own language: what goes into it are typed addresses and names of our own making, nothing from the wire.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
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


@dataclass(frozen=True)
class Chain:
    """A base chain. `priority`: as the hook's number. Without a hook: one that others jump to (`regular`).

    Without slots: its comments are worked out once, as most chains are in one drawing of a table after the other.
    """

    name: str
    kind: str
    hook: str
    priority: int
    rules: tuple[Rule, ...]
    policy: str = "accept"

    @cached_property
    def comments(self) -> tuple[str, ...]:
        return tuple(rule.comment for rule in self.rules)


def regular(name: str, rules: Iterable[Rule]) -> Chain:
    """A chain that others jump to; those come and go without a touch to any other."""
    return Chain(name, "", "", 0, tuple(rules))


@dataclass(frozen=True, slots=True)
class Set:
    """`type`: as nft has it: "ipv4_addr", "ifname . ipv4_addr"; a map's: "ipv4_addr : ipv4_addr", "ifname : verdict".

    `elements`: as nft has them: "10.0.0.0/24", "eth0 . 10.0.0.1", "10.0.0.1 : 10.0.0.2", "tap1 : jump tap1".
    `dynamic`: rules put them there, `size` at most, and they are none of our business.
    """

    name: str
    type: str
    elements: frozenset[str]
    interval: bool = False
    dynamic: bool = False
    size: int = _DYNAMIC_SIZE

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
    """`script`: what nft(8) is to run, as one transaction; `words`: what was wrong.

    `names`: of chains and @sets that were wrong, and what elements that were hold or jump to; None: all of the table.
    """

    script: str
    words: tuple[str, ...]
    names: frozenset[str] | None = None


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


def seen_of(table: Table) -> Seen:
    """What the kernel has once it has all of it; what rules put into sets, nobody knows before it is read."""
    return Seen(
        sets={each.name: each.elements for each in table.sets},
        hooks={
            chain.name: (chain.kind, chain.hook, chain.priority, chain.policy) if chain.hook else (None,) * 4
            for chain in table.chains
        },
        comments={chain.name: chain.comments for chain in table.chains},
    )


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
        if jump := value.get("jump"):
            return f"jump {jump['target']}"
    return str(value)


def difference(wanted: Table, seen: Seen | None) -> Difference | None:
    """What brings the kernel from `seen` (None: there is no such table) to `wanted`; None: it is there already."""
    if seen is None:
        return Difference(_whole(wanted), (f"table {wanted.family} {wanted.name} is missing",))
    if not _same_shape(wanted, seen):
        # Hooks can't be changed in place; within one transaction no packet sees the moment between.
        header = f"delete table {wanted.family} {wanted.name}\n"
        return Difference(header + _whole(wanted), (f"table {wanted.family} {wanted.name} has another shape",))
    return _step(wanted, seen)


def _step(wanted: Table, seen: Seen) -> Difference | None:
    """Only what differs, in an order in which nothing is named before it is there, or goes while it is named."""
    where = f"{wanted.family} {wanted.name}"
    sets = {each.name: each for each in wanted.sets}
    chains = {chain.name: chain for chain in wanted.chains}
    changed = [it for it in wanted.chains if seen.comments.get(it.name) != it.comments]
    gone = sorted(seen.comments.keys() - chains.keys())
    names = {chain.name for chain in changed} | set(gone)
    words = [f"the rules of chain {wanted.name} {chain.name} are not as they should be" for chain in changed]
    words += [f"chain {wanted.name} {name} is there, and should not be" for name in gone]
    lines = [f"add chain {where} {chain.name}" for chain in changed if chain.name not in seen.comments]
    lines += [_declared(where, each) for name, each in sets.items() if name not in seen.sets]
    names |= {f"@{name}" for name in sets.keys() - seen.sets.keys()}
    # What jumps to a chain that goes has to go first.
    for verb in ("delete", "add"):
        for each in wanted.sets:
            present = seen.sets.get(each.name)
            if present is not None and not each.dynamic:
                lines += _change_elements(wanted, each, present, verb, words, names)
        if verb == "delete":
            lines += [f"flush chain {where} {name}" for name in gone]
            for chain in changed:
                lines += [f"flush chain {where} {chain.name}", *_rules(wanted, chain)]
    lines += [f"delete chain {where} {name}" for name in gone]
    lines += [f"delete {_kind_seen(name, seen)} {where} {name}" for name in sorted(seen.sets.keys() - sets.keys())]
    return Difference("\n".join(lines) + "\n", tuple(words), frozenset(names)) if lines else None


def _change_elements(
    table: Table, wanted: Set, present: frozenset[str], verb: str, words: list[str], names: set[str]
) -> list[str]:
    # A key of a map can't get another value in place.
    elements = present - wanted.elements if verb == "delete" else wanted.elements - present
    if not elements:
        return []
    names |= {f"@{wanted.name}", *(element.split()[-1] for element in elements)}
    state = "has too much" if verb == "delete" else "lacks"
    words.append(f"{table.name} {wanted.name} {state}: {', '.join(sorted(elements))}")
    return [f"{verb} element {table.family} {table.name} {wanted.name} {{ {', '.join(sorted(elements))} }}"]


def _kind_seen(name: str, seen: Seen) -> str:
    return "map" if any(" : " in element for element in seen.sets[name]) else "set"


def _same_shape(wanted: Table, seen: Seen) -> bool:
    """Of its base chains; all else comes and goes one by one."""
    hooks = {it.name: (it.kind, it.hook, it.priority, it.policy) for it in wanted.chains if it.hook}
    return {name: hook for name, hook in seen.hooks.items() if hook[1]} == hooks


def _whole(table: Table) -> str:
    where = f"{table.family} {table.name}"
    lines = [f"add table {where}"]
    for chain in table.chains:
        hook = f" {{ type {chain.kind} hook {chain.hook} priority {chain.priority}; policy {chain.policy}; }}"
        lines.append(f"add chain {where} {chain.name}{hook if chain.hook else ''}")
    lines += [_declared(where, each) for each in table.sets]
    for chain in table.chains:
        lines += _rules(table, chain)
    return "\n".join(lines) + "\n"


def _declared(where: str, wanted: Set) -> str:
    flags = " flags interval;" if wanted.interval else ""
    flags += f" size {wanted.size}; flags dynamic;" if wanted.dynamic else ""
    elements = f" elements = {{ {', '.join(sorted(wanted.elements))} }}" if wanted.elements else ""
    return f"add {wanted.kind} {where} {wanted.name} {{ type {wanted.type};{flags}{elements} }}"


def _rules(table: Table, chain: Chain) -> list[str]:
    where = f"{table.family} {table.name} {chain.name}"
    return [f'add rule {where} {rule.text} comment "{rule.comment}"' for rule in chain.rules]
