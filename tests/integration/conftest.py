"""After every integration test that made a log, the invariants of its cell hold (DESIGN §8).

A directory whose tests fill logs with made-up events overrides `invariants`. A test that breaks some on purpose says
which: `@pytest.mark.breaks("CONSTRAINTS")`, and then it must.

And the log and the bus of a test's cell, or a NATS of its own, for tests that stop, kill or pause it.
"""

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


@pytest.fixture
def invariants() -> frozenset[Invariant]:
    """Those that the logs of these tests can have."""
    return frozenset(Invariant)


def broken_on_purpose(request: pytest.FixtureRequest) -> set[Invariant]:
    """What the test's markers say."""
    return {Invariant[name] for marker in request.node.iter_markers("breaks") for name in marker.args}


@pytest.fixture(autouse=True)
def invariants_hold(request: pytest.FixtureRequest) -> None:
    """Has the checker look at the test's cell, if it has one of its own, when all that used it has ended."""
    if "cell" not in request.fixturenames:
        return
    cell = request.getfixturevalue("cell")
    if not isinstance(cell, Cell):  # a world of the test's own, by the same name
        return
    possible: frozenset[Invariant] = request.getfixturevalue("invariants")
    broken = broken_on_purpose(request)

    async def look() -> None:
        from tests.harness.invariants import check_at_rest  # all services: only those need them who have a cell

        await check_at_rest(cell, possible, broken)

    cell.at_end(look)


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
