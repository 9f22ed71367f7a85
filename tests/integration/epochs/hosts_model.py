"""The read model that these tests run: one row per host."""

from __future__ import annotations

import asyncpg

from core.eventlog import RecordedEvent
from core.projection import Projection


class HostsModel(Projection):
    """Projection `hosts-model`."""

    name = "hosts-model"
    version = 1
    ddl = "CREATE TABLE hosts (host uuid PRIMARY KEY, events bigint NOT NULL, last_event uuid NOT NULL);"

    async def apply(self, connection: asyncpg.Connection, event: RecordedEvent) -> None:
        if event.aggregate_type == "host":
            await connection.execute(
                "INSERT INTO hosts VALUES ($1, 1, $2) ON CONFLICT (host) DO UPDATE"
                " SET events = hosts.events + 1, last_event = excluded.last_event",
                event.aggregate_id,
                event.event_id,
            )

    async def reset(self, connection: asyncpg.Connection) -> None:
        await connection.execute("DROP TABLE IF EXISTS hosts")
