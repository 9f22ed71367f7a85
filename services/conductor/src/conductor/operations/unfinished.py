"""Which sagas have not ended, and whose runner fell silent.

A conductor replica is alive while it holds its lease `conductor/<replica>`.
"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

import asyncpg

from cirra.operations.v1 import events_pb2 as pb
from core.eventlog.schema import quote_identifier
from core.eventlog.types import RecordedEvent
from core.projection import Projection
from core.saga import Orphan

DDL = "CREATE TABLE unfinished (saga_id uuid PRIMARY KEY, runner text NOT NULL, stuck boolean NOT NULL DEFAULT false);"

_BEGIN = "INSERT INTO unfinished SELECT * FROM unnest($1::uuid[], $2::text[])"
_ENDED = ("SagaCompleted", "SagaUnwound", "SagaResolved")
_CONCERNED = frozenset(
    f"cirra.operations.v1.{name}" for name in ("SagaStarted", "SagaAdopted", "SagaStuck", "SagaRetried", *_ENDED)
)


def runner_lease(replica: str) -> str:
    """The name of a replica's lease."""
    return f"conductor/{replica}"


class UnfinishedProjection(Projection):
    """Projection `conductor-unfinished`."""

    name = "conductor-unfinished"
    version = 1
    ddl = DDL
    gather_s = 0.25

    def __init__(self) -> None:
        # Begun, with their runner, and ended since the last flush: many do both.
        self._begun: dict[UUID, str] = {}
        self._ended: list[UUID] = []

    def concerns(self, event: RecordedEvent) -> bool:
        return event.type in _CONCERNED

    async def reset(self, connection: asyncpg.Connection) -> None:
        await connection.execute("DROP TABLE IF EXISTS unfinished")

    async def flush(self, connection: asyncpg.Connection) -> None:
        begun, ended = self._begun, self._ended
        self.forget()
        if begun:
            await connection.execute(_BEGIN, list(begun), list(begun.values()))
        if ended:
            await connection.execute("DELETE FROM unfinished WHERE saga_id = ANY($1)", ended)

    def forget(self) -> None:
        self._begun, self._ended = {}, []

    async def apply(self, connection: asyncpg.Connection, event: RecordedEvent) -> None:
        saga_id, name = event.aggregate_id, event.type.rsplit(".", 1)[-1]
        if name == "SagaStarted":
            self._begun[saga_id] = pb.SagaStarted.FromString(event.data).runner
        elif name in _ENDED:
            if self._begun.pop(saga_id, None) is None:
                self._ended.append(saga_id)
        else:
            await self.flush(connection)
            await self._change(connection, saga_id, name, event)

    async def _change(self, connection: asyncpg.Connection, saga_id: UUID, name: str, event: RecordedEvent) -> None:
        match name:
            case "SagaAdopted":
                runner = pb.SagaAdopted.FromString(event.data).runner
                await connection.execute("UPDATE unfinished SET runner = $2 WHERE saga_id = $1", saga_id, runner)
            case "SagaStuck":
                await connection.execute("UPDATE unfinished SET stuck = true WHERE saga_id = $1", saga_id)
            case "SagaRetried":
                await connection.execute("UPDATE unfinished SET stuck = false WHERE saga_id = $1", saga_id)


class UnfinishedSagas:
    """Reads the projection against the leases of the replicas, which live in the log's schema."""

    def __init__(self, pool: asyncpg.Pool, schema: str, log_schema: str, replica: str) -> None:
        self._pool = pool
        self._unfinished = f"{quote_identifier(schema)}.unfinished"
        self._leases = f"{quote_identifier(log_schema)}.leases"
        self._replica = replica

    async def orphaned(self) -> Iterable[Orphan]:
        """Runs of replicas that hold no lease any more, and our own: what of those broke off is gone on with."""
        rows = await self._pool.fetch(
            f"SELECT u.saga_id, u.runner, l.expires_at FROM {self._unfinished} u"
            f" LEFT JOIN {self._leases} l ON l.name = 'conductor/' || u.runner"
            " WHERE NOT u.stuck AND (u.runner = $1 OR l.expires_at IS NULL OR l.expires_at <= clock_timestamp())"
            " ORDER BY u.saga_id LIMIT 200",
            self._replica,
        )
        return [Orphan(row["saga_id"], row["runner"], row["expires_at"]) for row in rows]
