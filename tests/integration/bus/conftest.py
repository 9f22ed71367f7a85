"""A bus of the test's own cell; and a server of the test's own, for tests that stop, kill or pause it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from core.bus import Bus, connect, ensure_streams
from core.embedded.nats import EmbeddedNats
from core.eventlog import EventLog, Leases
from core.testing.invariants import Invariant
from core.testing.servers import Cell


@pytest_asyncio.fixture
async def bus(cell: Cell) -> AsyncIterator[Bus]:
    """Connected as a control-plane service, streams made."""
    bus = await connect(cell.nats_url, cell=cell.name, name="test", credentials=cell.credentials)
    await ensure_streams(bus)
    yield bus
    await bus.close()


@pytest_asyncio.fixture
async def own_nats(tmp_path: Path) -> AsyncIterator[EmbeddedNats]:
    """A server that the test may do anything to; everybody may do everything on it."""
    async with EmbeddedNats(tmp_path / "own-nats") as server:
        yield server


@pytest_asyncio.fixture
async def own_bus(own_nats: EmbeddedNats, cell_name: str) -> AsyncIterator[Bus]:
    """A bus on `own_nats`, streams made."""
    bus = await connect(own_nats.url, cell=cell_name, name="test")
    await ensure_streams(bus)
    yield bus
    await bus.close()


@pytest_asyncio.fixture
async def log(cell: Cell) -> AsyncIterator[EventLog]:
    log = await EventLog.open(cell.dsn, schema=f"{cell.name}_log", pool_size=4)
    yield log
    await log.close()


@pytest.fixture
def leases(log: EventLog) -> Leases:
    return Leases(log.pool, log.schema)


@pytest.fixture
def invariants() -> frozenset[Invariant]:
    """The logs of these tests hold made-up events, which imply nothing."""
    return frozenset({Invariant.LOG, Invariant.STREAM})
