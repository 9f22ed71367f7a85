"""The tables of the firewall in the kernel, in the calling thread's namespace. Blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from net_agent.drivers.base import NetworkFault
from net_agent.drivers.linux import nftables
from net_agent.drivers.linux.guard import names
from net_agent.drivers.linux.guard.backends import Backend, BridgeBackend, IpBackend
from net_agent.drivers.linux.ruleset import Difference, Seen, Table, difference, seen_of

_FAMILIES = ("bridge", "inet")
# What only a kernel with nf_conntrack_bridge takes.
_PROBE = "add table bridge {0}\nadd chain bridge {0} probe\nadd rule bridge {0} probe ct state established accept\n"


@dataclass(frozen=True, slots=True)
class Sight:
    """By family; None: there is no such table. generation: the kernel's number of these rules."""

    tables: dict[str, Seen | None]
    generation: int

    @property
    def taps(self) -> frozenset[str]:
        """The taps that have a chain."""
        bridge = self.tables["bridge"]
        elements = bridge.sets.get(names.TAPS, ()) if bridge is not None else ()
        return frozenset(element.split()[0] for element in elements)

    @property
    def is_empty(self) -> bool:
        return not any(self.tables.values())

    def due(self, tables: Sequence[Table], strays: frozenset[str] = frozenset()) -> list[Difference]:
        """What brings the kernel to these tables, and no others of ours. strays: taps that are left as they are."""
        found = [difference(table, _without(self.tables[table.family], strays, table)) for table in tables]
        surplus = self.tables.keys() - {table.family for table in tables}
        found += [
            Difference(f"delete table {family} {names.TABLE}\n", (f"table {family} {names.TABLE} is too much",))
            for family in sorted(surplus)
            if self.tables[family] is not None
        ]
        return [each for each in found if each is not None]

    def next(self, tables: Sequence[Table]) -> Sight:
        """As it is when one transaction, and no other, has made these of all that is there."""
        found = {table.family: seen_of(table) for table in tables}
        return Sight({family: found.get(family) for family in self.tables}, self.generation + 1)


def _without(seen: Seen | None, strays: frozenset[str], wanted: Table) -> Seen | None:
    """As if these taps were not there, nor anything that they may need and nobody else does."""
    if seen is None or not strays:
        return seen
    theirs = frozenset(chain for tap in strays for chain in names.chains_of_port(tap))
    shared = {name for name in (*seen.comments, *seen.sets) if names.is_of_group(name)}
    elements = {each.name: each.elements for each in wanted.sets}
    hidden = theirs | (shared - elements.keys() - {chain.name for chain in wanted.chains})
    return replace(
        seen,
        comments={name: each for name, each in seen.comments.items() if name not in hidden},
        hooks={name: each for name, each in seen.hooks.items() if name not in hidden},
        sets={
            # Of a group's members a stray may know some that no record tells of yet.
            name: each & elements[name]
            if name in shared
            else frozenset(element for element in each if element.split()[-1] not in theirs)
            for name, each in seen.sets.items()
            if name not in hidden
        },
    )


class Lookout:
    """Reads the tables again only when the kernel's rules are others than when it read, or wrote, them last."""

    def __init__(self) -> None:
        self._seen: Sight | None = None

    def look(self) -> Sight:
        """The same one as long as nothing has changed."""
        # The number is asked for first: what changes meanwhile is seen by the next look.
        generation = nftables.generation()
        if self._seen is None or self._seen.generation != generation:
            tables = {family: nftables.read_table(family, names.TABLE) for family in _FAMILIES}
            self._seen = Sight(tables, generation)
        return self._seen

    def write(self, due: Sequence[Difference], then: Sight | None) -> bool:
        """Makes all of it at once, or nothing; says whether the next look finds *then* without reading.

        then: what is there afterwards if nobody else has changed anything since the look that this follows from, which
        the kernel's number tells: it rises by one with every transaction. Raises NetworkFault.
        """
        nftables.apply("".join(each.script for each in due))
        if then is None or nftables.generation() != then.generation:
            return False
        self._seen = then
        return True


def delete_tables() -> None:
    for family in _FAMILIES:
        nftables.delete_table(family, names.TABLE)


def best_backend() -> Backend:
    """Tracking in the bridge is preferred: it shows the host's own rules nothing of what guests send one another."""
    try:
        nftables.check(_PROBE.format("cirra_probe"))
    except NetworkFault:
        return IpBackend()
    return BridgeBackend()
