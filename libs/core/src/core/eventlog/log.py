"""The event log: Cirra's only source of truth. Appends are grouped; positions are gapless and in commit order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import structlog

from cirra.operations.v1.events_pb2 import EpochRaised
from core.eventlog import leases
from core.eventlog.connections import (
    CONNECT_TIMEOUT_S,
    LIMITS,
    WRITER_SETTINGS,
    backoff,
    is_transient,
    leave_session,
)
from core.eventlog.errors import LogUnavailable, ServerUnverified
from core.eventlog.schema import check_schema_name, migrate, packaged, quote_identifier
from core.eventlog.types import Append, Appended, Counter, Head, RecordedEvent
from core.eventlog.watch import HeadWatch
from core.eventlog.writer import Writer
from core.ids import epoch_aggregate_id, uuid7

MIGRATIONS = ("log_0001", "log_0002_append", "log_0003_repair", "log_0004_epoch", *leases.MIGRATIONS)

_COLUMNS = (
    "position, epoch, event_id, aggregate_type, aggregate_id, version, type, schema_version, data,"
    " recorded_at, actor, request_id, causation_id, correlation_id, traceparent"
)

_log = structlog.get_logger(__name__)


class EventLog:
    """A log in one schema of a Postgres database. Made by `open`.

    `pool` is for whatever else lives in the same database: projections, leases, sealing keys.
    """

    def __init__(self, pool: asyncpg.Pool, schema: str, writer: Writer, watch: HeadWatch) -> None:
        self.pool = pool
        self.schema = schema
        self._writer = writer
        self._watch = watch
        self._quoted = quote_identifier(schema)
        # That were made to append: behind each new one may be another server, or a restored log.
        self.connections = 0

    @classmethod
    async def open(
        cls, dsn: str, *, schema: str, pool_size: int = 10, patience_s: float = 60.0, poll_interval_s: float = 1.0
    ) -> EventLog:
        """Connects and creates the schema when it is absent; replicas may do so at once.

        `patience_s`: how long this call, and every append, waits for a Postgres that is away before it raises
        LogUnavailable. `poll_interval_s`: how late `wait_beyond` is at most when a notification got lost.
        """
        check_schema_name(schema)
        pool = await _patiently_open(dsn, schema, pool_size, patience_s)

        async def connect_writer() -> asyncpg.Connection:
            connection = await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT_S, server_settings=WRITER_SETTINGS)
            log.connections += 1
            watch.append_by(connection)
            # A server's timeline stays as long as its connections do: to ask once for each is enough.
            return await _verified(connection, schema)

        async def connect_listener() -> asyncpg.Connection:
            return await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT_S, server_settings=LIMITS)

        watch = HeadWatch(connect_listener, schema, poll_interval_s=poll_interval_s)
        writer = Writer(connect_writer, schema, patience_s=patience_s, appended=watch.saw)
        log = cls(pool, schema, writer, watch)
        return log

    async def close(self) -> None:
        """Finishes what is being appended, for a bounded time, and closes the connections."""
        await self._writer.close()
        await self._watch.close()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self.pool.close()
        except TimeoutError:
            _log.warning("connections of the event log were in use when it was closed", schema=self.schema)
            self.pool.terminate()

    async def append(self, append: Append) -> Appended:
        """Appends all the events and applies their constraints, or nothing of it; returns once it is durable.

        Raises VersionConflict, UniqueViolation, LimitExceeded or CounterUnderflow when it does not fit,
        InvalidAppend when it never could, LogUnavailable when Postgres is away for too long. After the last,
        or after a cancellation, the append may have happened: appending the same event ids again is safe and
        returns where they are.
        """
        return await self._writer.append(append)

    async def read(self, *, after: int, limit: int = 1000, up_to: int | None = None) -> list[RecordedEvent]:
        """The events that follow position `after`, at most `limit`, none beyond `up_to`. Without gaps."""
        rows = await self.pool.fetch(
            f"SELECT {_COLUMNS} FROM {self._quoted}.events"
            " WHERE position > $1 AND ($2::bigint IS NULL OR position <= $2) ORDER BY position LIMIT $3",
            after,
            up_to,
            limit,
        )
        return [RecordedEvent(*row) for row in rows]

    async def read_of(
        self, types: Collection[str], *, after: int, up_to: int, limit: int = 1000
    ) -> list[RecordedEvent]:
        """As `read`, but of these types only; the one at `up_to` is among them, whatever it is."""
        rows = await self.pool.fetch(
            f"SELECT {_COLUMNS} FROM {self._quoted}.events"
            " WHERE position > $1 AND position <= $2 AND (type = ANY($3) OR position = $2) ORDER BY position LIMIT $4",
            after,
            up_to,
            list(types),
            limit,
        )
        return [RecordedEvent(*row) for row in rows]

    async def read_aggregate(
        self, aggregate_id: UUID, *, after_version: int = 0, up_to_position: int | None = None
    ) -> list[RecordedEvent]:
        """An aggregate's events in order of version; `up_to_position` answers AS OF."""
        rows = await self.pool.fetch(
            f"SELECT {_COLUMNS} FROM {self._quoted}.events WHERE aggregate_id = $1 AND version > $2"
            " AND ($3::bigint IS NULL OR position <= $3) ORDER BY version",
            aggregate_id,
            after_version,
            up_to_position,
        )
        return [RecordedEvent(*row) for row in rows]

    async def read_aggregates(self, aggregate_ids: Sequence[UUID]) -> dict[UUID, list[RecordedEvent]]:
        """As `read_aggregate`, of several at one moment; nothing for those to which nothing happened."""
        rows = await self.pool.fetch(
            f"SELECT {_COLUMNS} FROM {self._quoted}.events WHERE aggregate_id = ANY($1::uuid[])"
            " ORDER BY aggregate_id, version",
            aggregate_ids,
        )
        found: dict[UUID, list[RecordedEvent]] = {aggregate_id: [] for aggregate_id in aggregate_ids}
        for event in (RecordedEvent(*row) for row in rows):
            found[event.aggregate_id].append(event)
        return found

    async def list_events(
        self,
        *,
        aggregate_id: UUID | None = None,
        aggregate_type: str | None = None,
        correlation_id: str | None = None,
        after: int = 0,
        up_to: int | None = None,
        limit: int = 1000,
    ) -> list[RecordedEvent]:
        """The events that all given filters let through, in order of position, at most `limit`."""
        filters: dict[str, Any] = {
            "aggregate_id =": aggregate_id,
            "aggregate_type =": aggregate_type,
            "correlation_id <> '' AND correlation_id =": correlation_id,  # as the partial index says it
            "position <=": up_to,
        }
        given = [(condition, value) for condition, value in filters.items() if value is not None]
        conditions = "".join(f" AND {condition} ${n}" for n, (condition, _) in enumerate(given, 3))
        rows = await self.pool.fetch(
            f"SELECT {_COLUMNS} FROM {self._quoted}.events WHERE position > $1{conditions} ORDER BY position LIMIT $2",
            after,
            limit,
            *(value for _, value in given),
        )
        return [RecordedEvent(*row) for row in rows]

    async def position_at(self, moment: datetime) -> int:
        """The last position that was recorded at or before the moment (an aware datetime); 0 before the first."""
        position: int = await self.pool.fetchval(f"SELECT {self._quoted}.position_at($1)", moment)
        return position

    async def head(self) -> Head:
        """Where the log ends now."""
        rows = await self.pool.fetch(f"SELECT position, epoch, recorded_at FROM {self._quoted}.head")
        return Head(*rows[0])

    async def raise_epoch(
        self, cause: str, *, expected: int, above: int = 0, published_position: int = 0, actor: str = ""
    ) -> Head | None:
        """Events were lost: what follows is of a new epoch, higher than `above` too, and begins with an EpochRaised.

        Returns the new head; None when the epoch is not the `expected` one: it was raised by somebody else.
        """
        epoch = max(expected, above) + 1
        event = EpochRaised(epoch=epoch, cause=cause, published_position=published_position)
        rows = await self.pool.fetch(
            f"SELECT * FROM {self._quoted}.raise_epoch($1, $2, $3, 'epoch', $4, $5, $6, $7)",
            expected,
            epoch,
            uuid7(),
            epoch_aggregate_id(epoch),
            EpochRaised.DESCRIPTOR.full_name,
            event.SerializeToString(deterministic=True),
            actor,
        )
        if not rows:
            return None
        _log.error("log.epoch_raised", schema=self.schema, epoch=epoch, cause=cause)
        return Head(*rows[0])

    async def is_verified(self) -> bool:
        """Whether this is the server, on the timeline, that the log was last known to be whole on."""
        return bool(await self.pool.fetchval(f"SELECT {self._quoted}.is_verified()"))

    async def confirm_server(self, *, expected: int) -> bool:
        """No event was lost on the way to this server: it takes appends. False when the epoch is not the expected."""
        return bool(await self.pool.fetchval(f"SELECT {self._quoted}.confirm_server($1)", expected))

    @property
    def known_position(self) -> int:
        """The log reaches at least this position, as far as this process knows: with all that it has appended."""
        return self._watch.position

    async def wait_beyond(self, position: int, *, timeout: float, gather_s: float = 0.0) -> bool:  # noqa: ASYNC109
        """Waits until the log is longer than `position`: False when it is not after `timeout` seconds.

        `gather_s`: how much longer it waits for more where all that has come is known to be `patient`.
        """
        return await self._watch.wait_beyond(position, timeout=timeout, gather_s=gather_s)

    def hurry(self, position: int) -> None:
        """Somebody waits to hear of the log up to there through the bus: the relay of this process does not gather."""
        self._watch.hurry(position)

    async def counter(self, scope: str, key: str) -> Counter:
        """What is used and the limit; a counter that was never touched is unlimited."""
        row = await self.pool.fetchrow(
            f'SELECT used, "limit" FROM {self._quoted}.counters WHERE scope = $1 AND key = $2', scope, key
        )
        return Counter(0, None) if row is None else Counter(*row)

    async def counters(self, scope: str) -> dict[str, Counter]:
        """All counters of a scope that were ever touched, by key."""
        rows = await self.pool.fetch(
            f'SELECT key, used, "limit" FROM {self._quoted}.counters WHERE scope = $1 ORDER BY key', scope
        )
        return {key: Counter(used, limit) for key, used, limit in rows}

    async def unique_owner(self, scope: str, key: str) -> str | None:
        """Who has the key, if anybody."""
        owner: str | None = await self.pool.fetchval(
            f"SELECT owner FROM {self._quoted}.unique_keys WHERE scope = $1 AND key = $2", scope, key
        )
        return owner

    async def unique_keys(self, scope: str) -> dict[str, str]:
        """All keys of a scope that somebody has, with their owners."""
        rows = await self.pool.fetch(
            f"SELECT key, owner FROM {self._quoted}.unique_keys WHERE scope = $1 ORDER BY key", scope
        )
        return {key: owner for key, owner in rows}


async def _verified(connection: asyncpg.Connection, schema: str) -> asyncpg.Connection:
    """The connection, to a server that may take appends. Raises ServerUnverified."""
    if not await connection.fetchval(f"SELECT {quote_identifier(schema)}.is_verified()"):
        connection.terminate()
        raise ServerUnverified("Postgres was promoted or restored: waiting until it is known to be whole")
    return connection


async def _patiently_open(dsn: str, schema: str, pool_size: int, patience_s: float) -> asyncpg.Pool:
    """A pool on a database that has the schema."""
    clock: Callable[[], float] = asyncio.get_running_loop().time
    deadline = clock() + patience_s
    for pause in backoff():
        pool = asyncpg.create_pool(
            dsn,
            min_size=1,
            max_size=pool_size,
            timeout=CONNECT_TIMEOUT_S,
            server_settings=LIMITS,
            reset=leave_session,
        )
        try:
            await pool
            async with pool.acquire() as connection:
                await migrate(connection, schema, packaged(*MIGRATIONS))
            return pool
        except BaseException as error:
            with suppress(asyncpg.InterfaceError):  # it was never connected
                pool.terminate()
            if not is_transient(error):
                raise
            if clock() + pause > deadline:
                raise LogUnavailable(f"Postgres is away for {patience_s:g} s: {error!r}") from error
            _log.warning("event log not reached, trying on", schema=schema, error=repr(error))
        await asyncio.sleep(pause)
    raise AssertionError("backoff has no end")
