"""Read models against a rebuild from zero; sagas against the leases of those that run them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast
from uuid import UUID

import asyncpg

from cirra.operations.v1 import events_pb2 as pb
from core.eventlog.log import EventLog
from core.eventlog.schema import quote_identifier
from core.eventlog.types import RecordedEvent
from core.projection import Projection
from core.projection.checkpoints import Checkpoints
from core.testing.invariants_violation import Invariant, Violation

_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = $1 ORDER BY 1"
_ENDED = frozenset(f"cirra.operations.v1.{name}" for name in ("SagaCompleted", "SagaUnwound", "SagaResolved"))
_MAX_TEXT = 200

Rows = Mapping[str, Counter[str]]
"""Table → its rows as Postgres prints them, counted."""


@dataclass(frozen=True, slots=True)
class ReadModel:
    """A projection and the schema where a service keeps it."""

    schema: str
    projection: Projection


async def rebuild_differences(
    log: EventLog, model: ReadModel, events: Sequence[RecordedEvent], *, resting: bool = False
) -> list[Violation]:
    """Where the live rows are not those of a rebuild. *events*: all, from position 1 on.

    Both are read at the checkpoint of the live rows; behind the last event is a violation too, unless its projector is
    *resting*. The rebuild happens in a schema of a transaction that is rolled back: nobody sees it.
    """
    name = model.projection.name
    state = await Checkpoints(model.schema, name).load(log.pool)
    if state is None:
        return [Violation(Invariant.READ_MODEL, name, f"schema {model.schema} has no checkpoint of it")]
    if state.halted_at is not None:
        return [Violation(Invariant.READ_MODEL, name, f"halted at {state.halted_at}: {state.error}")]
    if state.position < len(events) and not resting:
        return [Violation(Invariant.READ_MODEL, name, f"at {state.position}, the log at {len(events)}")]
    async with log.pool.acquire() as pooled:
        connection = cast(asyncpg.Connection, pooled)
        # The lock keeps the projector away. To have waited for it would be an error under repeatable read.
        transaction = connection.transaction()
        await transaction.start()
        try:
            live_at = (await Checkpoints(model.schema, name).lock(connection)).position
            later: Sequence[RecordedEvent] = ()
            if live_at > len(events):
                later = await log.read(after=len(events), limit=live_at - len(events), up_to=live_at)
            rebuilt = await _rebuilt(connection, model.projection, [*events[:live_at], *later])
            live = await _rows(connection, model.schema, rebuilt)
        finally:
            await transaction.rollback()
    return list(_row_differences(name, live, rebuilt))


async def _rebuilt(connection: asyncpg.Connection, projection: Projection, events: Sequence[RecordedEvent]) -> Rows:
    """The rows after the events; the tables are in a new schema."""
    scratch = "rebuilt_from_zero"
    await connection.execute(f"CREATE SCHEMA {scratch}")
    await connection.execute(f"SET LOCAL search_path TO {scratch}")
    await connection.execute(projection.ddl)
    projection.forget()  # rows that it remembers are of another rebuild
    for event in events:
        if projection.concerns(event):
            await projection.apply(connection, event)
    await projection.flush(connection)
    tables = [record["tablename"] for record in await connection.fetch(_TABLES, scratch)]
    return await _rows(connection, scratch, tables)


async def _rows(connection: asyncpg.Connection, schema: str, tables: Sequence[str] | Rows) -> Rows:
    return {
        table: Counter(
            record["row"]
            for record in await connection.fetch(
                f"SELECT t::text AS row FROM {quote_identifier(schema)}.{quote_identifier(table)} t"
            )
        )
        for table in tables
    }


def _row_differences(name: str, live: Rows, rebuilt: Rows) -> Iterator[Violation]:
    for table, right in rebuilt.items():
        for what, rows in (("too much", live[table] - right), ("missing", right - live[table])):
            for row in sorted(rows):
                yield Violation(Invariant.READ_MODEL, f"{name}, table {table}", f"{what}: {row[:_MAX_TEXT]}")


async def abandoned_sagas(
    log: EventLog, events: Sequence[RecordedEvent], runner_lease: Callable[[str], str]
) -> list[Violation]:
    """Runs that have not ended, are not stuck, and whose runner holds no lease of the given name."""
    names: dict[UUID, str] = {}
    runners: dict[UUID, str] = {}
    stuck: set[UUID] = set()
    for event in events:
        if event.aggregate_type != "saga":
            continue
        saga_id, kind = event.aggregate_id, event.type.rpartition(".")[2]
        if kind == "SagaStarted":
            started = pb.SagaStarted.FromString(event.data)
            names[saga_id], runners[saga_id] = started.saga, started.runner
        elif kind == "SagaAdopted":
            runners[saga_id] = pb.SagaAdopted.FromString(event.data).runner
        elif kind == "SagaStuck":
            stuck.add(saga_id)
        elif kind == "SagaRetried":
            stuck.discard(saga_id)
        elif event.type in _ENDED:
            runners.pop(saga_id, None)
    rows = await log.pool.fetch(
        f"SELECT name FROM {quote_identifier(log.schema)}.leases WHERE expires_at > clock_timestamp()"
    )
    alive = {row["name"] for row in rows}
    return [
        Violation(Invariant.SAGA, f"{names[saga_id]} {saga_id}", f"has not ended, and its runner {runner} is gone")
        for saga_id, runner in runners.items()
        if saga_id not in stuck and runner_lease(runner) not in alive
    ]
