"""The projection that the tests run: one row per event, and a running total."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import asyncpg

from core.eventlog import EventLog, RecordedEvent
from core.projection import Projection


class Listing(Projection):
    """Raises on payload `poison` while `fragile`; waits on payload `slow` until `gate` is set, or for `slow_s`."""

    name = "listing"
    ddl = """
        CREATE TABLE listed (position bigint PRIMARY KEY, event_id uuid NOT NULL, payload text NOT NULL);
        CREATE TABLE total (one boolean PRIMARY KEY DEFAULT true, events bigint NOT NULL, characters bigint NOT NULL);
        INSERT INTO total (events, characters) VALUES (0, 0);
    """

    def __init__(self, *, version: int = 1, fragile: bool = True, mark: str = "", slow_s: float | None = None) -> None:
        self.version = version
        self.fragile = fragile
        self.mark = mark
        self.slow_s = slow_s
        self.applied: list[int] = []
        self.gate = asyncio.Event()
        self.reached_slow = asyncio.Event()

    async def apply(self, connection: asyncpg.Connection, event: RecordedEvent) -> None:
        payload = event.data.decode()
        await connection.execute(
            "INSERT INTO listed VALUES ($1, $2, $3)", event.position, event.event_id, self.mark + payload
        )
        if payload.startswith("slow"):
            self.reached_slow.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(self.slow_s):
                    await self.gate.wait()
        if self.fragile and payload.startswith("poison"):
            raise ValueError("no such field")
        await connection.execute("UPDATE total SET events = events + 1, characters = characters + $1", len(payload))
        self.applied.append(event.position)

    async def reset(self, connection: asyncpg.Connection) -> None:
        await connection.execute("DROP TABLE IF EXISTS listed, total")


class Weak(Listing):
    """Postgres takes no more than so many events at a time, up to that position. `largest`: of the batches it took."""

    def __init__(self, *, at_most: int, up_to: int) -> None:
        super().__init__()
        self.at_most = at_most
        self.up_to = up_to
        self.largest = 0
        self._begun: list[int] = []

    async def apply(self, connection: asyncpg.Connection, event: RecordedEvent) -> None:
        self._begun.append(event.position)
        await super().apply(connection, event)

    async def flush(self, connection: asyncpg.Connection) -> None:
        begun, self._begun = self._begun, []
        if len(begun) > self.at_most and begun[0] <= self.up_to:
            raise TimeoutError("this is too much")
        self.largest = max(self.largest, len(begun))


async def rows(log: EventLog, schema: str) -> list[tuple[int, str]]:
    found = await log.pool.fetch(f'SELECT position, payload FROM "{schema}".listed ORDER BY position')
    return [(row["position"], row["payload"]) for row in found]


async def assert_equals_log(log: EventLog, schema: str, mark: str = "") -> None:
    """The rows are what a plain reading of the whole log makes of them."""
    events = await log.read(after=0, limit=1_000_000)
    assert await rows(log, schema) == [(event.position, mark + event.data.decode()) for event in events]
    total = await log.pool.fetchrow(f'SELECT events, characters FROM "{schema}".total')
    assert total is not None
    assert tuple(total) == (len(events), sum(len(event.data) for event in events))
