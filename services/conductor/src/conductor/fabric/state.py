"""Reads the projection, in any replica."""

from __future__ import annotations

import asyncpg

from cirra.agent.v1.desired_pb2 import DesiredObject
from conductor.fabric.rows import Row, desired_object
from core.eventlog.schema import quote_identifier


class FabricState:
    """Derived objects of hosts."""

    def __init__(self, pool: asyncpg.Pool, schema: str) -> None:
        self._pool = pool
        self._select = (
            f"SELECT host, kind, object_id, generation, absent, spec FROM {quote_identifier(schema)}.fabric_objects"
            " WHERE host = $1 AND generation > $2 ORDER BY generation, kind, object_id"
        )

    async def of_host(self, host: str, since: int) -> list[DesiredObject]:
        """The objects that changed after position `since`, absent ones too; for 0 all that there are, and no absent
        ones: what a complete answer doesn't list is removed."""
        rows = await self._pool.fetch(self._select, host, since)
        return [_desired(row) for row in rows if since or not row["absent"]]


def _desired(row: asyncpg.Record) -> DesiredObject:
    spec = None if row["absent"] else row["spec"]
    return desired_object((row["host"], row["kind"], row["object_id"]), Row(row["generation"], spec))
