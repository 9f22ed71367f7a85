"""What a read model has to bring."""

from __future__ import annotations

from abc import ABC, abstractmethod

import asyncpg

from core.eventlog.types import RecordedEvent


class Projection(ABC):
    """One read model. The `Projector` does the rest: order, transactions, checkpoint, the one active replica.

    `name` is unique in its schema. `version`: raise it when the tables or the meaning of `apply` change, and the
    read model is built again from zero. `apply`, `flush` and `reset` run in a transaction with the schema as
    `search_path`, so tables are named without it.
    """

    name: str
    version: int
    ddl: str
    """SQL that creates the tables (`CREATE TABLE …;`), run after `reset` and when there are none."""
    gather_s: float = 0.0
    """How long an event may wait for others to share its transaction. What somebody waits for goes at once."""

    def concerns(self, event: RecordedEvent) -> bool:
        """False: `apply` would skip the event. Such events cost no transaction; the checkpoint passes them late."""
        return True

    @abstractmethod
    async def apply(self, connection: asyncpg.Connection, event: RecordedEvent) -> None:
        """Changes the rows for one event. What it does not know, it skips. It must not look at anything but the
        event and the projection's own rows, so that a rebuild ends in the same rows.

        Whatever it raises, short of Postgres being away, halts the projection before this event.
        """

    async def flush(self, connection: asyncpg.Connection) -> None:  # noqa: B027
        """Writes what `apply` has only remembered so far. Called after the last event of each transaction."""

    def committed(self) -> None:  # noqa: B027
        """What was applied and flushed last is committed. For what is told to others: it does not wait."""

    def begins(self, head: int) -> None:  # noqa: B027
        """This replica is about to apply events, with the log at `head`: those up to there are not news."""

    def forget(self) -> None:  # noqa: B027
        """What it remembers of its rows may not be true: a transaction failed, or another replica has been active."""

    @abstractmethod
    async def reset(self, connection: asyncpg.Connection) -> None:
        """Drops the tables, those of earlier versions too; absent ones are fine (`DROP TABLE IF EXISTS`)."""
