"""The tables of the firewall in the kernel, in the calling thread's namespace. Blocks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from net_agent.drivers.base import NetworkFault
from net_agent.drivers.linux import nftables
from net_agent.drivers.linux.guard import names
from net_agent.drivers.linux.guard.backends import Backend, BridgeBackend, IpBackend
from net_agent.drivers.linux.ruleset import Difference, Seen, Table, difference

_FAMILIES = ("bridge", "inet")
# What only a kernel with nf_conntrack_bridge takes.
_PROBE = "add table bridge {0}\nadd chain bridge {0} probe\nadd rule bridge {0} probe ct state established accept\n"


@dataclass(frozen=True, slots=True)
class Sight:
    """By family; None: there is no such table."""

    tables: dict[str, Seen | None]

    @property
    def taps(self) -> frozenset[str]:
        """The taps that have a chain."""
        bridge = self.tables["bridge"]
        elements = bridge.sets.get(names.TAPS, ()) if bridge is not None else ()
        return frozenset(element.split()[0] for element in elements)

    @property
    def is_empty(self) -> bool:
        return not any(self.tables.values())

    def without(self, taps: frozenset[str]) -> Sight:
        """As if these were not there, nor anything that they may need: so they are left as they are."""
        if not taps:
            return self
        return Sight({family: _without(seen, taps) for family, seen in self.tables.items()})

    def due(self, tables: Sequence[Table]) -> list[Difference]:
        """What brings the kernel to these tables, and no others of ours."""
        found = [difference(table, self.tables[table.family]) for table in tables]
        surplus = self.tables.keys() - {table.family for table in tables}
        found += [
            Difference(f"delete table {family} {names.TABLE}\n", (f"table {family} {names.TABLE} is too much",))
            for family in sorted(surplus)
            if self.tables[family] is not None
        ]
        return [each for each in found if each is not None]


def _without(seen: Seen | None, taps: frozenset[str]) -> Seen | None:
    if seen is None:
        return None
    theirs = frozenset(chain for tap in taps for chain in names.chains_of_port(tap))
    shared = {name for name in (*seen.comments, *seen.sets) if names.is_of_group(name)}
    return replace(
        seen,
        comments={name: each for name, each in seen.comments.items() if name not in theirs | shared},
        hooks={name: each for name, each in seen.hooks.items() if name not in theirs | shared},
        sets={
            name: frozenset(element for element in each if element.split()[-1] not in theirs)
            for name, each in seen.sets.items()
            if name not in shared
        },
    )


class Lookout:
    """Reads the tables again only when the kernel's rules are others than when it read them last."""

    def __init__(self) -> None:
        self._seen: tuple[int, Sight] | None = None

    def look(self) -> Sight:
        """The same one as long as nothing has changed."""
        # The number is asked for first: what changes meanwhile is seen by the next look.
        generation = nftables.generation()
        if self._seen is None or self._seen[0] != generation:
            tables = {family: nftables.read_table(family, names.TABLE) for family in _FAMILIES}
            self._seen = generation, Sight(tables)
        return self._seen[1]


def apply(due: Iterable[Difference]) -> None:
    """All of it at once, or nothing. Raises NetworkFault."""
    script = "".join(each.script for each in due)
    if script:
        nftables.apply(script)


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
