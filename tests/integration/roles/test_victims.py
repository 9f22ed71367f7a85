"""A writer, relay or projector that is stopped, killed or cut from Postgres stalls the others for 10 s at most, and
changes nothing when it wakes (DESIGN §2). All three are victims at once, each in a process of its own.

The 10 s are waited for leases and locks. Work comes on top, the more the busier the machine is (`bound_s`).

The detector, the fourth such role, is in test_detector.py and in tests/integration/liveness.
"""

from __future__ import annotations

import asyncio
import os
import time
from asyncio.subprocess import Process
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

import pytest

from core.bus import Bus
from core.embedded.postgres import EmbeddedPostgres
from core.eventlog import EventLog, Leases
from core.projection import Projector
from core.relay import Relay
from core.testing.faults.link import TcpLink
from core.testing.faults.processes import kill, paused
from core.testing.servers import Cell
from tests.harness.promptness import bound_s, lateness
from tests.integration.bus.handling import eventually
from tests.integration.bus.journal import append, assert_mirrors, until_stream_at
from tests.integration.projection.conftest import running
from tests.integration.projection.listing import Listing, assert_equals_log
from tests.integration.roles.process import playing

STALL_S = 10.0
PATIENCE_S = 120.0
VICTIM, OTHER = "victim", "other"
ROLES = ("writer", "relay", "projector")


@dataclass
class World:
    """The victims, and those who should not mind: a writer, a relay and a projector of this process."""

    cell: Cell
    log: EventLog
    bus: Bus
    link: TcpLink
    victims: Mapping[str, Process]
    projector: Projector
    longest_append_s: float = 0.0
    work_s: float = 0.0
    held: dict[str, str] = field(default_factory=dict)

    @property
    def schema(self) -> str:
        return f"{self.cell.name}_reads"

    @property
    def roles(self) -> set[str]:
        """Those that have one holder, as their leases are called."""
        return {"relay", f"projection:{self.schema}:listing"}

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self.victims.values()]

    async def held_by(self, holder: str) -> None:
        """Returns once the holder has both leases."""

        async def found() -> bool:
            rows = await self.log.pool.fetch(
                f"SELECT name FROM \"{self.log.schema}\".leases WHERE holder = '{holder}'"
                " AND expires_at > clock_timestamp()"
            )
            return {row["name"] for row in rows} == self.roles

        await eventually(found)

    async def leases_end_in_time(self) -> None:
        """By Postgres's own time, in which nobody's work counts."""
        left = await self.log.pool.fetch(
            f'SELECT name, expires_at - clock_timestamp() AS left FROM "{self.log.schema}".leases WHERE holder = $1',
            VICTIM,
        )
        assert {row["name"] for row in left} == self.roles
        assert max(row["left"] for row in left) < timedelta(seconds=STALL_S)

    async def in_the_middle_of_something(self) -> None:
        """The victim's projector is within a transaction, its relay is busy, and its writer appends."""
        await append(self.log, payload="slow")

        async def found() -> bool:
            query = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%' AND query LIKE '%INTO listed%'"
            return bool(await self.log.pool.fetchval(query) == 1)

        await eventually(found)

    async def reached_everywhere(self, position: int, timeout_s: float = 60.0) -> None:
        """Returns once stream and read model have it."""
        await until_stream_at(self.bus, position)
        assert await self.projector.wait_for(position, timeout=timeout_s)

    async def works(self) -> None:
        """Measures what it takes when nobody is in its way."""
        for _ in range(3):
            began = time.monotonic()
            await self.reached_everywhere(await append(self.log), timeout_s=PATIENCE_S)
            self.work_s = max(self.work_s, time.monotonic() - began)

    async def append_all_the_time(self) -> None:
        while True:
            began = time.monotonic()
            await append(self.log)
            self.longest_append_s = max(self.longest_append_s, time.monotonic() - began)
            await asyncio.sleep(0.02)

    async def writer_s_events(self) -> int:
        """How many there are; each writer's say, in order, what its n-th should."""
        versions: dict[UUID, list[tuple[int, str]]] = defaultdict(list)
        for event in await self.log.list_events(aggregate_type="thing", limit=1_000_000):
            versions[event.aggregate_id].append((event.version, event.data.decode().rstrip()))
        for found in versions.values():
            assert found == [(n, f"{VICTIM} {n}") for n in range(1, len(found) + 1)]
        return sum(map(len, versions.values()))

    async def only_own_appends(self) -> None:
        """Returns once Postgres has done with what the writer had sent before it was killed."""
        query = f"SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%CALL \"{self.log.schema}\".append_batch%'"

        async def alone() -> bool:
            return bool(await self.log.pool.fetchval(f"{query} AND pid <> pg_backend_pid()") == 1)

        await eventually(alone)

    async def writer_goes_on(self) -> None:
        before = await self.writer_s_events()

        async def more() -> bool:
            return await self.writer_s_events() > before

        await eventually(more)


@pytest.fixture
async def world(
    cell: Cell, log: EventLog, bus: Bus, leases: Leases, postgres_server: EmbeddedPostgres
) -> AsyncIterator[World]:
    schema = f"{cell.name}_reads"
    listing = Listing()
    listing.gate.set()
    projector = Projector(listing, log=log, bus=bus, leases=leases, schema=schema, holder=OTHER)
    async with AsyncExitStack() as stack:
        link = await stack.enter_async_context(TcpLink(postgres_server.port))
        victims = {
            role: await stack.enter_async_context(
                playing(
                    role,
                    dsn=link.url(cell.dsn),
                    nats_url=cell.nats_url,
                    credentials=str(cell.credentials),
                    cell=cell.name,
                    holder=VICTIM,
                )
            )
            for role in ROLES
        }
        world = World(cell, log, bus, link, victims, projector)
        await world.held_by(VICTIM)
        await world.writer_goes_on()
        yield world


@asynccontextmanager
async def others(world: World, leases: Leases) -> AsyncIterator[None]:
    """They run; in the end all is where it should be."""
    appending = asyncio.create_task(world.append_all_the_time())
    try:
        async with running(Relay(world.log, leases, world.bus, holder=OTHER), world.projector):
            yield
            assert not appending.done(), appending
            appending.cancel()
            await asyncio.gather(appending, return_exceptions=True)
            await world.reached_everywhere((await world.log.head()).position)
    finally:
        appending.cancel()
        await asyncio.gather(appending, return_exceptions=True)


Fault = Callable[[World], AbstractContextManager[None]]
FAULTS: dict[str, Fault] = {
    "stopped": lambda world: paused(*world.pids),
    "cut off in silence": lambda world: world.link.blackholed(),
    "cut off with resets": lambda world: world.link.away(),
}


@pytest.mark.parametrize("fault", [*FAULTS, "killed"])
async def test_victims_stall_nobody_and_change_nothing_when_they_wake(world: World, leases: Leases, fault: str) -> None:
    async with others(world, leases):
        await world.works()
        await world.in_the_middle_of_something()
        if fault == "killed":
            await kill(*world.pids)
        with FAULTS[fault](world) if fault in FAULTS else nullcontext():
            began = time.monotonic()
            await world.leases_end_in_time()
            async with lateness(lambda: [os.getpid()]) as machine:  # this process is all those who should not mind
                await world.reached_everywhere(await append(world.log))
            stalled_s, stall_s = (
                time.monotonic() - began,
                bound_s(STALL_S, work_s=world.work_s, waited_s=machine.total_s),
            )
            assert stalled_s < stall_s
            await world.held_by(OTHER)
        for _ in range(5):  # they wake amid this, if they can
            await world.reached_everywhere(await append(world.log, 20))
        if fault in FAULTS:
            await world.writer_goes_on()
        assert world.longest_append_s < stall_s
    if fault in FAULTS:  # and are of use again
        await world.held_by(VICTIM)
        await world.reached_everywhere(await append(world.log))
        await kill(world.victims["writer"].pid)
        await world.only_own_appends()
        await world.reached_everywhere((await world.log.head()).position)
    assert await world.writer_s_events() > 0
    await assert_mirrors(world.bus, world.log)
    await assert_equals_log(world.log, world.schema)
