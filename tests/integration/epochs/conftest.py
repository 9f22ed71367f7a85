"""A log on a Postgres that has a standby, which will be found at the same address."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest_asyncio

from core.bus import Bus, connect, ensure_streams
from core.embedded.nats import EmbeddedNats
from core.embedded.postgres import EmbeddedPostgres
from core.eventlog import EventLog, Leases
from core.relay import Relay
from tests.harness.standby import Standby, make_standby, until_caught_up

PATIENCE_S = 120.0


@dataclass(slots=True)
class Failover:
    primary: EmbeddedPostgres
    standby: Standby
    bus: Bus
    cell: str

    @property
    def dsn(self) -> str:
        """Of the primary, then of whoever was promoted."""
        return self.primary.dsn

    async def follow(self) -> None:
        """The standby gets all that there is, and stays up to date."""
        await self.standby.start()
        await until_caught_up(self.primary)

    async def promote(self) -> None:
        """The primary is gone for good; the standby, with what it has, is the log now."""
        await self.standby.take_over(self.primary)


async def until_epoch(log: EventLog, epoch: int) -> None:
    """Returns once the log is known to be whole, in that epoch."""
    async with asyncio.timeout(PATIENCE_S):
        while not (await log.is_verified() and (await log.head()).epoch == epoch):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@asynccontextmanager
async def relaying(log: EventLog, bus: Bus, *holders: str) -> AsyncIterator[list[Relay]]:
    """Relays that work, of which one is active."""
    relays = [Relay(log, Leases(log.pool, log.schema), bus, holder=holder, idle_check_s=0.3) for holder in holders]
    tasks = [asyncio.create_task(relay.run()) for relay in relays]
    try:
        yield relays
        assert not any(task.done() for task in tasks), tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest_asyncio.fixture
async def failover(cell_name: str, tmp_path: Path) -> AsyncIterator[Failover]:
    async with AsyncExitStack() as stack:
        primary = EmbeddedPostgres(tmp_path / "primary", durable=False)
        await stack.enter_async_context(primary)
        nats = await stack.enter_async_context(EmbeddedNats(tmp_path / "nats"))
        # Before there is anything in it: what the standby is to lack comes later.
        standby = await make_standby(primary, tmp_path / "standby")
        stack.push_async_callback(standby.stop)
        bus = await connect(nats.url, cell=cell_name, name="test")
        stack.push_async_callback(bus.close)
        await ensure_streams(bus)
        yield Failover(primary, standby, bus, cell_name)
