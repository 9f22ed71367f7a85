"""A process of its own that appends until it is killed: `endless_writer.py DSN SCHEMA`."""

from __future__ import annotations

import asyncio
import sys

from core.eventlog import Append, EventLog, NewEvent
from core.ids import uuid7


async def write(log: EventLog) -> None:
    while True:
        event = NewEvent(
            aggregate_type="thing",
            aggregate_id=uuid7(),
            version=1,
            type="cirra.test.v1.ThingHappened",
            data=bytes(1000),
            event_id=uuid7(),
        )
        await log.append(Append((event,)))


async def main(dsn: str, schema: str) -> None:
    log = await EventLog.open(dsn, schema=schema)
    print("writing", flush=True)
    await asyncio.gather(*(write(log) for _ in range(8)))


asyncio.run(main(*sys.argv[1:]))
