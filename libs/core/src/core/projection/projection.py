"""What a read model has to bring."""

from __future__ import annotations

from typing import Protocol

import asyncpg

from core.eventlog.types import RecordedEvent


class Projection(Protocol):
    """One read model. The `Projector` does the rest: order, transactions, checkpoint, the one active replica.

    `name` is unique in its schema. `version`: raise it when the tables or the meaning of `apply` change, and the
    read model is built again from zero. Both methods run in a transaction with the schema as `search_path`, so
    tables are named without it.
    """

    name: str
    version: int
    ddl: str
    """SQL that creates the tables (`CREATE TABLE …;`), run after `reset` and when there are none."""

    async def apply(self, connection: asyncpg.Connection, event: RecordedEvent) -> None:
        """Changes the rows for one event. What it does not know, it skips. It must not look at anything but the
        event and the projection's own rows, so that a rebuild ends in the same rows.

        Whatever it raises, short of Postgres being away, halts the projection before this event.
        """
        ...

    async def reset(self, connection: asyncpg.Connection) -> None:
        """Drops the tables, those of earlier versions too; absent ones are fine (`DROP TABLE IF EXISTS`)."""
        ...
