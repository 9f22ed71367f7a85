"""A replica in a process of its own, that a test can stop: relay and projector, with the leases as in production.

python -m tests.integration.projection.replica DSN NATS_URL CREDENTIALS CELL HOLDER
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from core.bus import connect
from core.eventlog import EventLog, Leases
from core.projection import Projector
from core.relay import Relay

from .listing import Listing


async def run(dsn: str, url: str, credentials: str, cell: str, holder: str) -> None:
    log = await EventLog.open(dsn, schema=f"{cell}_log")
    bus = await connect(url, cell=cell, name=holder, credentials=Path(credentials))
    leases = Leases(log.pool, log.schema)
    projector = Projector(Listing(), log=log, bus=bus, leases=leases, schema=f"{cell}_reads", holder=holder)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(Relay(log, leases, bus, holder=holder).run())
        tasks.create_task(projector.run())


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:]))
