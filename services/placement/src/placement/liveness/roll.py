"""Table `roll` of placement's schema: who was ever heard, so that a replica that starts knows whom it should hear.

No time is in it. It is derived from heartbeats: lost, it comes back as they do, without those that are silent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import asyncpg
import structlog

from core.eventlog.connections import is_transient
from core.eventlog.leases import Lease, Leases
from core.eventlog.schema import Migration, check_schema_name, migrate, quote_identifier
from placement.liveness.tracker import Heard, Tracker

_log = structlog.get_logger(__name__)
_ROWS_AT_ONCE = 1000
_MIGRATION = Migration(
    "roll_0001",
    """
    CREATE TABLE :"schema".roll (
        component   text    NOT NULL,
        instance    text    NOT NULL,
        boot_id     text    NOT NULL,
        version     text    NOT NULL,
        host        text    NOT NULL,
        nats_server text    NOT NULL,
        up          boolean NOT NULL,
        PRIMARY KEY (component, instance)
    );
    """,
)


@dataclass(frozen=True, slots=True)
class _Row:
    component: str
    instance: str
    boot_id: str
    version: str
    host: str
    nats_server: str
    up: bool

    @classmethod
    def of(cls, heard: Heard) -> _Row:
        return cls(
            heard.component,
            heard.instance,
            heard.boot_id,
            heard.version,
            heard.host,
            heard.nats_server,
            heard.up,
        )

    def heard(self) -> Heard:
        return Heard(
            component=self.component,
            instance=self.instance,
            boot_id=self.boot_id,
            version=self.version,
            host=self.host,
            nats_server=self.nats_server,
            silence_ms=0,
            up=self.up,
        )


def _values(row: _Row) -> tuple[object, ...]:
    """As the table has its columns."""
    return row.component, row.instance, row.boot_id, row.version, row.host, row.nats_server, row.up


class Roll:
    """Read by every replica, written by the detector alone."""

    def __init__(self, pool: asyncpg.Pool, schema: str, leases: Leases) -> None:
        self._pool = pool
        self._schema = check_schema_name(schema)
        self._table = f"{quote_identifier(schema)}.roll"
        self._leases = leases
        self._upsert = (
            f"INSERT INTO {self._table} SELECT * FROM"
            " unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::boolean[])"
            " ON CONFLICT (component, instance)"
            " DO UPDATE SET boot_id = excluded.boot_id, version = excluded.version, host = excluded.host,"
            " nats_server = excluded.nats_server, up = excluded.up"
        )
        self._delete = (
            f"DELETE FROM {self._table} WHERE (component, instance) IN (SELECT * FROM unnest($1::text[], $2::text[]))"
        )
        self._known: dict[tuple[str, str], _Row] = {}
        self._written_at_s = 0.0
        self._changed = False

    async def prepare(self) -> None:
        """Makes the table when it is absent."""
        async with self._pool.acquire() as connection:
            await migrate(connection, self._schema, (_MIGRATION,))

    async def call(self, tracker: Tracker) -> None:
        """The tracker expects whom it has not heard itself, and misses nobody who has left."""
        rows = await self._pool.fetch(
            f"SELECT component, instance, boot_id, version, host, nats_server, up FROM {self._table}"
        )
        before, self._known = self._known, {(row["component"], row["instance"]): _Row(*row) for row in rows}
        for row in self._known.values():
            tracker.remember(row.heard())
        for component, instance in before.keys() - self._known.keys():
            tracker.forget(component, instance)

    async def keep(self, tracker: Tracker, lease: Lease, *, changed: bool) -> None:
        """Writes it, soon after a host has `changed`, else now and then. Raises LeaseLost."""
        self._changed = self._changed or changed
        since_s = tracker.heard_for_s - self._written_at_s
        if since_s >= (tracker.window_s / 2 if self._changed else tracker.window_s * 2):
            self._written_at_s, self._changed = tracker.heard_for_s, False
            await self._write(tracker, lease)

    async def _write(self, tracker: Tracker, lease: Lease) -> None:
        present = {(heard.component, heard.instance): _Row.of(heard) for heard in tracker.all()}
        changed = [row for key, row in present.items() if self._known.get(key) != row]
        gone = [key for key in self._known if key not in present]
        if not changed and not gone:
            return
        # A few at a time: with 30,000 in one transaction, a detector that lost its lease meanwhile hung in it.
        for first in range(0, len(changed), _ROWS_AT_ONCE):
            rows = changed[first : first + _ROWS_AT_ONCE]
            await self._execute(lease, self._upsert, *map(list, zip(*map(_values, rows), strict=True)))
            self._known.update(((row.component, row.instance), row) for row in rows)
        if gone:
            await self._execute(lease, self._delete, *map(list, zip(*gone, strict=True)))
        self._known = present

    async def _execute(self, lease: Lease, query: str, *columns: list[Any]) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            await self._leases.check(connection, lease)
            await connection.execute(query, *columns)

    async def follow(self, tracker: Tracker, *, every_s: float, unless: Callable[[], bool]) -> None:
        """Calls it now and then, for ever; `unless` this replica is the one that writes it."""
        while True:
            await asyncio.sleep(every_s)
            if unless():
                continue
            try:
                await self.call(tracker)
            except Exception as error:
                if not is_transient(error):
                    raise
                _log.warning("the roll can't be read, later again", error=repr(error))

    def knows(self, component: str, instance: str) -> bool:
        return (component, instance) in self._known

    def was_silent(self, component: str, instance: str) -> bool:
        """Whether it was down already when the roll was read or written last."""
        row = self._known.get((component, instance))
        return row is not None and not row.up
