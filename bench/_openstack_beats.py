"""What heartbeats are measured against: a row per service, updated by each beat, and scanned for who is late.

As OpenStack does it, without what is slow in its implementation (no message queue, no conductor, no ORM): nova's
`servicegroup/drivers/db.py` reads the service's row and writes it back with a higher `report_count` and
`last_seen_up = now`; who asks whether a service is up gets all rows and compares `now - last_seen_up` in Python.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from datetime import UTC, datetime, timedelta

import asyncpg

DOWN_AFTER = timedelta(seconds=6)
_SCHEMA = """
    CREATE SCHEMA openstack_beats;
    CREATE TABLE openstack_beats.services (
        id bigint PRIMARY KEY, host text NOT NULL, "binary" text NOT NULL, report_count bigint NOT NULL,
        last_seen_up timestamptz NOT NULL, updated_at timestamptz NOT NULL, disabled boolean NOT NULL
    ) WITH (fillfactor = 70);
    CREATE UNIQUE INDEX ON openstack_beats.services (host, "binary");
"""


async def prepare(pool: asyncpg.Pool, hosts: list[str], agents: tuple[str, ...]) -> int:
    """The rows of so many services."""
    await pool.execute(_SCHEMA)
    now = datetime.now(UTC)
    services = list(itertools.product(hosts, agents))
    await pool.copy_records_to_table(
        "services",
        schema_name="openstack_beats",
        records=[(number, host, agent, 0, now, now, False) for number, (host, agent) in enumerate(services)],
    )
    await pool.execute("ANALYZE openstack_beats.services")
    return len(services)


async def beat_for(pool: asyncpg.Pool, services: int, seconds: float, in_flight: int) -> int:
    """How many beats were written."""
    numbers = itertools.cycle(range(services))
    begin, done = time.monotonic(), 0

    async def worker() -> None:
        nonlocal done
        while time.monotonic() < begin + seconds:
            await _beat(pool, next(numbers))
            done += 1

    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return done


async def _beat(pool: asyncpg.Pool, number: int) -> None:
    async with pool.acquire() as connection, connection.transaction():
        count = await connection.fetchval("SELECT report_count FROM openstack_beats.services WHERE id = $1", number)
        await connection.execute(
            "UPDATE openstack_beats.services SET report_count = $2, last_seen_up = $3, updated_at = $3 WHERE id = $1",
            number,
            count + 1,
            datetime.now(UTC),
        )


async def scan(pool: asyncpg.Pool) -> list[str]:
    """Who is late."""
    rows = await pool.fetch('SELECT host, "binary", last_seen_up, disabled FROM openstack_beats.services')
    now = datetime.now(UTC)
    return [row["host"] for row in rows if now - row["last_seen_up"] > DOWN_AFTER]
