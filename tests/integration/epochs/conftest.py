"""A log on a Postgres that has a standby, reached as services reach it: by an address that survives the failover."""

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
from core.testing.faults.link import TcpLink
from tests.harness.standby import Standby, make_standby, until_caught_up


@dataclass(slots=True)
class Failover:
    """`link`: leads to the primary, then to whoever was promoted."""

    primary: EmbeddedPostgres
    standby: Standby
    link: TcpLink
    bus: Bus
    cell: str

    @property
    def dsn(self) -> str:
        return self.link.url(self.primary.dsn)

    async def follow(self) -> None:
        """The standby gets all that there is, and stays up to date."""
        await self.standby.start()
        await until_caught_up(self.primary)

    async def promote(self) -> None:
        """The primary is gone for good; the standby, with what it has, is the log now."""
        await self.primary.kill()
        await self.standby.start()
        await self.standby.promote()
        self.link.lead_to(self.standby.port)
        if self.link.connections:
            self.link.reset()


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
        link = await stack.enter_async_context(TcpLink(primary.port))
        # Before there is anything in it: what the standby is to lack comes later.
        standby = await make_standby(primary, tmp_path / "standby")
        stack.push_async_callback(standby.stop)
        bus = await connect(nats.url, cell=cell_name, name="test")
        stack.push_async_callback(bus.close)
        await ensure_streams(bus)
        yield Failover(primary, standby, link, bus, cell_name)
