"""Projection `conductor-fabric`: the facts, and the rows of what hosts shall have by them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Protocol

import asyncpg

from cirra.agent.v1.desired_pb2 import DesiredObject
from conductor.fabric import rows
from conductor.fabric.derivation import Derivation, Key, Look
from conductor.fabric.facts import Facts, HostFacts
from conductor.fabric.writing import Change, write
from core.eventlog.types import RecordedEvent
from core.projection import Projection

# Rows that are looked at before they are written: the peers of a network with many hosts are many.
_FLUSH_AT = 20_000


class Outlet(Protocol):
    """Where objects that have changed go."""

    def tell(self, changed: Iterable[DesiredObject]) -> None:
        """Without waiting; what is not told is found by the host's next difference."""


class FabricProjection(Projection):
    """What an event changes is told to the hosts once it is committed; without an `outlet`, or for what happened before
    this replica became active, hosts find it by their next difference."""

    name = "conductor-fabric"
    version = 2
    ddl = Facts().ddl + rows.DDL
    gather_s = 0.02

    def __init__(self, outlet: Outlet | None = None) -> None:
        self._outlet = outlet
        self._derivation = Derivation()
        self._loaded = False
        self._looks: dict[Key, list[Look]] = defaultdict(list)
        self._looked = 0
        # To be told when the transaction is committed; and from which position on.
        self._changed: dict[Key, rows.Row] = {}
        self._tells_after = 0
        self._epoch = 0
        # The last position for which rows of what is gone were forgotten.
        self._tidied_at = 0

    def concerns(self, event: RecordedEvent) -> bool:
        return self._derivation.concerns(event)

    async def reset(self, connection: asyncpg.Connection) -> None:
        self.forget()
        names = ", ".join(table.name for table in Facts().tables)
        await connection.execute(f"DROP TABLE IF EXISTS fabric_objects, {names}")

    def begins(self, head: int) -> None:
        self._tells_after = head

    def forget(self) -> None:
        self._derivation = Derivation()
        self._loaded = False
        self._looks.clear()
        self._looked = 0
        self._changed.clear()
        self._tidied_at = 0

    async def apply(self, connection: asyncpg.Connection, event: RecordedEvent) -> None:
        if not self._loaded:
            await self._derivation.facts.load(connection)
            self._loaded = True
        self._epoch = event.epoch
        for look in self._derivation.take_in(event):
            self._looks[look.key].append(look)
            self._looked += 1
        if self._looked >= _FLUSH_AT:
            await write(connection, await self._looked_at(connection))
        if rows.kept_after(event.position) > rows.kept_after(self._tidied_at):
            await write(connection, await self._looked_at(connection))
            await rows.forget_absent(connection, event.position)
            self._tidied_at = event.position

    async def flush(self, connection: asyncpg.Connection) -> None:
        await write(connection, [*await self._looked_at(connection), *self._derivation.facts.unsaved()])

    def committed(self) -> None:
        changed, self._changed = self._changed, {}
        if self._outlet is None:
            return
        news = {key: row for key, row in changed.items() if row.generation > self._tells_after}
        self._outlet.tell(self._told(news))

    async def _looked_at(self, connection: asyncpg.Connection) -> Iterator[Change]:
        """What has changed by the looks so far, to be written."""
        looks, self._looks = self._looks, defaultdict(list)
        self._looked = 0
        before = await rows.find(connection, looks.keys())
        changed: dict[Key, rows.Row] = {}
        for key, each in looks.items():
            row = rows.after(before.get(key), each)
            if row is not None and row != before.get(key):
                changed[key] = row
        self._changed.update(changed)
        return rows.changes(changed)

    def _told(self, news: dict[Key, rows.Row]) -> Iterable[DesiredObject]:
        """What those hosts can be told that are up and may act."""
        for key, row in news.items():
            host = self._derivation.facts.hosts.get(key[0])
            if host is not None and _takes_commands(host, self._epoch):
                desired = rows.desired_object(key, row)
                desired.epoch = self._epoch
                yield desired


def _takes_commands(host: HostFacts, epoch: int) -> bool:
    """One that is down, or observe-only after a restore, asks for everything when it is back."""
    return not host.down and host.accepted_epoch >= epoch
