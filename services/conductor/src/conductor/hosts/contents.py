"""What observe-only hosts have said that they have: the newest word of each agent, kept for all replicas.

A claim, not an event: it is asked for again whenever it is lost.
"""

from __future__ import annotations

from typing import cast

import asyncpg

from cirra.agent.v1 import host_pb2 as api
from core.eventlog.schema import Migration, migrate, quote_identifier

_TABLE = Migration(
    "host_contents_0001",
    """
    CREATE TABLE :"schema".host_contents (
        host text NOT NULL, agent text NOT NULL, epoch bigint NOT NULL, payload bytea NOT NULL,
        reported_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (host, agent)
    );
    """,
)


class HostContents:
    """Table `host_contents` of the conductor's schema."""

    def __init__(self, pool: asyncpg.Pool, schema: str) -> None:
        self._pool = pool
        self._schema = schema
        table = f"{quote_identifier(schema)}.host_contents"
        self._put = (
            f"INSERT INTO {table} (host, agent, epoch, payload) VALUES ($1, $2, $3, $4)"
            " ON CONFLICT (host, agent) DO UPDATE SET epoch = excluded.epoch, payload = excluded.payload,"
            " reported_at = excluded.reported_at"
        )
        self._of = f"SELECT payload FROM {table} WHERE host = $1 AND epoch = $2 ORDER BY agent"

    async def prepare(self) -> None:
        """Makes the table when it is absent."""
        async with self._pool.acquire() as connection:
            await migrate(cast(asyncpg.Connection, connection), self._schema, (_TABLE,))

    async def put(self, contents: api.ReportContentsRequest) -> None:
        """Replaces what the agent said before."""
        payload = contents.SerializeToString(deterministic=True)
        await self._pool.execute(self._put, contents.host, contents.agent, contents.epoch, payload)

    async def of(self, host: str, epoch: int) -> list[api.ReportContentsRequest]:
        """What its agents have said in this epoch."""
        rows = await self._pool.fetch(self._of, host, epoch)
        return [api.ReportContentsRequest.FromString(row["payload"]) for row in rows]
