"""A log with a relay, and what the fabric makes of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from conductor.fabric.state import FabricState
from core.bus import Bus
from core.eventlog import EventLog, Leases
from core.relay import Relay
from core.testing.invariants import Invariant
from core.testing.servers import Cell
from tests.harness.fabric_history import History
from tests.integration.conductor.fabric.stage import Stage
from tests.integration.projection.conftest import running


@pytest.fixture
def invariants() -> frozenset[Invariant]:
    """Made-up events imply no constraints; the rows are those of a rebuild nevertheless."""
    return frozenset({Invariant.LOG, Invariant.STREAM, Invariant.READ_MODEL})


@pytest_asyncio.fixture
async def stage(cell: Cell, log: EventLog, bus: Bus, leases: Leases) -> AsyncIterator[Stage]:
    schema = f"{cell.name}_conductor"
    async with running(Relay(log, leases, bus, holder="r1", ack_timeout_s=0.5, idle_check_s=0.2)):
        yield Stage(log, bus, leases, schema, FabricState(log.pool, schema), History())
