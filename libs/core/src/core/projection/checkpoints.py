"""Table `projections` of a service's schema: how far each projection is, and whether it has halted.

Commits of projections don't wait for the disk (`synchronous_commit = off`): rows and checkpoint are lost together
or not at all, and what is lost is derived again. So NOTIFY, which holds a lock of the whole database until the
commit has ended, never makes an append wait for a projection's fsync.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import cast
from uuid import UUID

import asyncpg

from core.eventlog.errors import LeaseLost
from core.eventlog.leases import Lease, SqlLease
from core.eventlog.schema import Migration, check_schema_name, migrate, quote_identifier, quote_literal
from core.eventlog.types import RecordedEvent
from core.projection.errors import CheckpointMoved

_TABLE = Migration(
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
_MOVED = "CR001"
_LEASE_LOST = "CR002"
# Everything around a batch of events, in one round trip before it and one after; in one where it changes no row.
_BATCH = Migration(
    "projections_0002",
    f"""
    CREATE FUNCTION :"schema".enter_projection(
        this text, at_version integer, at bigint, at_generation bigint, at_halt bigint, holds_lease boolean
    ) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        IF NOT holds_lease THEN
            RAISE EXCEPTION 'the lease of projection % is another''s', this USING ERRCODE = '{_LEASE_LOST}';
        END IF;
        PERFORM set_config('search_path', quote_ident(:'schema'), true), set_config('synchronous_commit', 'off', true),
                set_config('idle_in_transaction_session_timeout', '{_PAUSED_S}s', true);
        PERFORM FROM :"schema".projections
          WHERE name = this AND version = at_version AND position = at AND generation = at_generation
            AND halted_at IS NOT DISTINCT FROM at_halt
            FOR UPDATE;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'projection % is not at % any more', this, at USING ERRCODE = '{_MOVED}';
        END IF;
    END
    $$;

    CREATE FUNCTION :"schema".leave_projection(this text, reached bigint, of_epoch bigint, event uuid) RETURNS void
    LANGUAGE plpgsql AS $$
    BEGIN
        UPDATE :"schema".projections
           SET position = reached, epoch = of_epoch, event_id = event, halted_at = NULL, error = '',
               updated_at = clock_timestamp()
         WHERE name = this;
        PERFORM pg_notify(:'schema' || '.projections', this || ' ' || reached);
    END
    $$;
    """,
)
_CONNECTION_GONE = (OSError, asyncpg.InterfaceError, asyncpg.PostgresError)
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
    """The checkpoint of one projection. All methods but `prepare`, `load` and `batch` need an open transaction."""

    def __init__(self, schema: str, name: str) -> None:
        self.name = name
        self.schema = check_schema_name(schema)
        self.channel = f"{schema}.projections"
        self._functions = quote_identifier(schema)
        table = f"{self._functions}.projections"
        self._select = f"SELECT {_COLUMNS} FROM {table} WHERE name = $1"
        self._lock = (
            f"SELECT {_COLUMNS}, set_config('search_path', $2, true), set_config('synchronous_commit', 'off', true),"
            f" set_config('idle_in_transaction_session_timeout', '{_PAUSED_S}s', true)"
            f" FROM {table} WHERE name = $1 FOR UPDATE"
        )
        moved = f"UPDATE {table} SET updated_at = clock_timestamp()"
        notified = "SELECT pg_notify($2, $1 || ' ' || position) FROM moved"
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
            await migrate(cast(asyncpg.Connection, connection), self.schema, (_TABLE, _BATCH))

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

    @asynccontextmanager
    async def batch(
        self, pool: asyncpg.Pool, expected: ProjectionState, lease: SqlLease, last: RecordedEvent
    ) -> AsyncIterator[asyncpg.Connection]:
        """A transaction that takes the checkpoint from *expected* to the event *last*; the rows are changed inside it.

        Raises CheckpointMoved, LeaseLost: then nothing has changed.
        """
        async with self._entering(pool, lease.lease) as connection:
            await connection.execute(f"BEGIN; {self._enter(expected, lease)}")
            try:
                yield connection
                await connection.execute(f"{self._leave(last)} COMMIT;")
            except BaseException:
                with suppress(*_CONNECTION_GONE):  # so is its transaction
                    await connection.execute("ROLLBACK")
                raise

    async def skip(self, pool: asyncpg.Pool, expected: ProjectionState, lease: SqlLease, last: RecordedEvent) -> None:
        """As a `batch` that changes no row, in one round trip."""
        async with self._entering(pool, lease.lease) as connection:
            # Several statements in one simple query are one transaction (Postgres manual, section 55.2.2.1).
            await connection.execute(f"{self._enter(expected, lease)} {self._leave(last)}")

    @asynccontextmanager
    async def _entering(self, pool: asyncpg.Pool, lease: Lease) -> AsyncIterator[asyncpg.Connection]:
        try:
            async with pool.acquire() as connection:
                yield cast(asyncpg.Connection, connection)
        except asyncpg.PostgresError as error:
            if error.sqlstate == _MOVED:
                raise CheckpointMoved(str(error)) from error
            if error.sqlstate == _LEASE_LOST:
                raise LeaseLost(lease.name, lease.holder, lease.fencing) from error
            raise

    def _enter(self, expected: ProjectionState, lease: SqlLease) -> str:
        halted_at = "NULL" if expected.halted_at is None else expected.halted_at
        return (
            f"SELECT {self._functions}.enter_projection({quote_literal(self.name)}, {expected.version},"
            f" {expected.position}, {expected.generation}, {halted_at}, {lease.condition});"
        )

    def _leave(self, last: RecordedEvent) -> str:
        return (
            f"SELECT {self._functions}.leave_projection({quote_literal(self.name)}, {last.position}, {last.epoch},"
            f" '{last.event_id}');"
        )

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
