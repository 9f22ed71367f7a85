"""One role in a process of its own, until it is killed; it says `ready` when it begins.

python -m tests.integration.roles.process ROLE DSN NATS_URL CREDENTIALS CELL HOLDER
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from core.bus import Bus, connect
from core.eventlog import Append, EventLog, Leases, NewEvent
from core.ids import uuid7
from core.projection import Projector
from core.relay import Relay
from tests.integration.projection.listing import Listing

WRITERS = 8
# Longer than a test lasts: who is cut off for so long goes on when it can.
PATIENCE_S = 120.0
SLOW_S = 1.5


@dataclass(frozen=True, slots=True)
class Arguments:
    dsn: str
    nats_url: str
    credentials: str
    cell: str
    holder: str

    async def log(self) -> EventLog:
        return await EventLog.open(self.dsn, schema=f"{self.cell}_log", patience_s=PATIENCE_S)

    async def bus(self) -> Bus:
        return await connect(self.nats_url, cell=self.cell, name=self.holder, credentials=Path(self.credentials))


async def write(arguments: Arguments, pause_s: float = 0.1) -> None:
    """Each writer has an aggregate, whose events it appends one after the other: version n holds `<holder> n`."""
    log = await arguments.log()

    async def endlessly() -> None:
        aggregate_id = uuid7()
        for version in itertools.count(1):
            event = NewEvent(
                aggregate_type="thing",
                aggregate_id=aggregate_id,
                version=version,
                type="cirra.test.v1.ThingHappened",
                data=f"{arguments.holder} {version}".encode().ljust(500),
                event_id=uuid7(),
            )
            await log.append(Append((event,)))
            await asyncio.sleep(pause_s)

    print("ready", flush=True)
    await asyncio.gather(*(endlessly() for _ in range(WRITERS)))


async def relay(arguments: Arguments) -> None:
    log, bus = await arguments.log(), await arguments.bus()
    print("ready", flush=True)
    await Relay(log, Leases(log.pool, log.schema), bus, holder=arguments.holder).run()


async def project(arguments: Arguments) -> None:
    log, bus = await arguments.log(), await arguments.bus()
    schema, leases = f"{arguments.cell}_reads", Leases(log.pool, log.schema)
    print("ready", flush=True)
    listing = Listing(slow_s=SLOW_S)
    await Projector(listing, log=log, bus=bus, leases=leases, schema=schema, holder=arguments.holder).run()


ROLES: dict[str, Callable[[Arguments], Awaitable[None]]] = {
    "writer": write,
    "busy writer": lambda arguments: write(arguments, 0.0),
    "relay": relay,
    "projector": project,
}


@asynccontextmanager
async def playing(
    role: str, *, dsn: str, nats_url: str = "", credentials: str = "", cell: str, holder: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The process, from when it is ready; it must not end by itself. Killed at the end, unless it was before."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.integration.roles.process", role),
        *(dsn, nats_url, credentials, cell, holder),
        cwd=Path(__file__).parents[3],
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert (await process.stdout.readline()).endswith(b"ready\n"), f"the {role} did not begin"
        yield process
        assert process.returncode in (None, -9), f"the {role} ended by itself: {process.returncode}"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def main(role: str, *arguments: str) -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # standard output says `ready`
    await ROLES[role](Arguments(*arguments))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
