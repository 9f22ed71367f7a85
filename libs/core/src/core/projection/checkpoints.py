"""Table `projections` of a service's schema: how far each projection is, and whether it has halted.

Commits of projections don't wait for the disk (`synchronous_commit = off`): rows and checkpoint are lost together
or not at all, and what is lost is derived again. So NOTIFY, which holds a lock of the whole database until the
commit has ended, never makes an append wait for a projection's fsync.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast
from uuid import UUID

import asyncpg

from core.eventlog.schema import Migration, check_schema_name, migrate, quote_identifier
from core.eventlog.types import RecordedEvent
from core.projection.errors import CheckpointMoved

_MIGRATION = Migration(
    "projections_0001",
    """
    CREATE TABLE :"schema".projections (
        name       text        COLLATE "C" PRIMARY KEY,
        version    integer     NOT NULL,
        position   bigint      NOT NULL,  -- of the last event whose changes are in the rows
        epoch      bigint      NOT NULL,  -- and its epoch and id, by which a restored log is noticed
        event_id   uuid,
        generation bigint      NOT NULL,  -- counts resets
        halted_at  bigint,                -- position of the event that could not be applied
        error      text        NOT NULL DEFAULT '',
        updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
    ) WITH (fillfactor = 50);
    """,
)
# A projector that is paused (SIGSTOP) within a transaction keeps its locks no longer than this: with its lease's ttl
# and the next holder's patience, others are held up for less than ten seconds.
_PAUSED_S = 4
_COLUMNS = "name, version, position, epoch, event_id, generation, halted_at, error"


@dataclass(frozen=True, slots=True)
class ProjectionState:
    """A row of the table. `event_id` is None at position 0, `halted_at` while all is well."""

    name: str
    version: int
    position: int
    epoch: int
    event_id: UUID | None
    generation: int
    halted_at: int | None
    error: str


class Checkpoints:
    """The checkpoint of one projection. All methods but `prepare` and `load` need an open transaction."""

    def __init__(self, schema: str, name: str) -> None:
        self.name = name
        self.schema = check_schema_name(schema)
        self.channel = f"{schema}.projections"
        table = f"{quote_identifier(schema)}.projections"
        self._select = f"SELECT {_COLUMNS} FROM {table} WHERE name = $1"
        self._lock = (
            f"SELECT {_COLUMNS}, set_config('search_path', $2, true), set_config('synchronous_commit', 'off', true),"
            f" set_config('idle_in_transaction_session_timeout', '{_PAUSED_S}s', true)"
            f" FROM {table} WHERE name = $1 FOR UPDATE"
        )
        moved = f"UPDATE {table} SET updated_at = clock_timestamp()"
        notified = "SELECT pg_notify($2, $1 || ' ' || position) FROM moved"
        self._advance = (
            f"WITH moved AS ({moved}, position = $3, epoch = $4, event_id = $5, halted_at = NULL, error = ''"
            f" WHERE name = $1 RETURNING position) {notified}"
        )
        self._halt = (
            f"WITH moved AS ({moved}, halted_at = $3, error = $4 WHERE name = $1 RETURNING position) {notified}"
        )
        self._restart = (
            f"WITH moved AS ({moved}, version = $3, position = 0, epoch = 0, event_id = NULL,"
            " generation = generation + 1, halted_at = NULL, error = '' WHERE name = $1 RETURNING position)"
            f" {notified}"
        )
        self._insert = (
            f"INSERT INTO {table} (name, version, position, epoch, generation) VALUES ($1, $2, 0, 0, 1)"
            " ON CONFLICT (name) DO NOTHING"
        )

    async def prepare(self, pool: asyncpg.Pool) -> None:
        """Makes schema and table when they are absent."""
        async with pool.acquire() as connection:
            await migrate(cast(asyncpg.Connection, connection), self.schema, (_MIGRATION,))

    async def load(self, pool: asyncpg.Pool) -> ProjectionState | None:
        """The row, None before `prepare` and `add`."""
        try:
            return _state(await pool.fetchrow(self._select, self.name))
        except asyncpg.UndefinedTableError:
            return None

    async def add(self, connection: asyncpg.Connection, version: int) -> bool:
        """Adds the projection at position 0; False when it is there already."""
        return await connection.execute(self._insert, self.name, version) == "INSERT 0 1"

    async def lock(self, connection: asyncpg.Connection) -> ProjectionState:
        """Locks the row until the end of the transaction, which gets the schema as `search_path`."""
        state = _state(await connection.fetchrow(self._lock, self.name, quote_identifier(self.schema)))
        if state is None:
            raise CheckpointMoved(f"projection {self.name} has no checkpoint")
        return state

    async def lock_as(self, connection: asyncpg.Connection, expected: ProjectionState) -> None:
        """`lock`, and CheckpointMoved unless the row is as expected."""
        found = await self.lock(connection)
        if found != expected:
            raise CheckpointMoved(f"projection {self.name} is at {found.position}, not {expected.position}")

    async def advance(self, connection: asyncpg.Connection, event: RecordedEvent) -> None:
        """The rows now hold all up to this event; those who wait hear of it when the transaction commits."""
        await connection.execute(self._advance, self.name, self.channel, event.position, event.epoch, event.event_id)

    async def halt(self, connection: asyncpg.Connection, position: int, error: str) -> None:
        await connection.execute(self._halt, self.name, self.channel, position, error)

    async def clear_halt(self, connection: asyncpg.Connection) -> None:
        await connection.execute(self._halt, self.name, self.channel, None, "")

    async def restart(self, connection: asyncpg.Connection, version: int) -> None:
        """Back to position 0, for this version of the projection."""
        await connection.execute(self._restart, self.name, self.channel, version)


@asynccontextmanager
async def transaction(pool: asyncpg.Pool) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the pool within a transaction."""
    async with pool.acquire() as connection, connection.transaction():
        yield cast(asyncpg.Connection, connection)


def _state(row: asyncpg.Record | None) -> ProjectionState | None:
    if row is None:
        return None
    return ProjectionState(
        name=row["name"],
        version=row["version"],
        position=row["position"],
        epoch=row["epoch"],
        event_id=row["event_id"],
        generation=row["generation"],
        halted_at=row["halted_at"],
        error=row["error"],
    )
