"""The way through a real NATS server: another one once the server was away, however short that was."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from cirra.agent.v1.desired_pb2 import Heartbeat
from core.bus import Bus, connect
from core.embedded.nats import EmbeddedNats
from placement.liveness.canaries import Canaries
from tests.integration.bus.handling import eventually

# Of the server in its configuration.
SERVER = "embedded"
NEVER_S = 3600.0


@pytest_asyncio.fixture
async def nats(tmp_path: Path) -> AsyncIterator[EmbeddedNats]:
    async with EmbeddedNats(tmp_path / "nats") as server:
        yield server


@pytest_asyncio.fixture
async def bus(nats: EmbeddedNats) -> AsyncIterator[Bus]:
    bus = await connect(nats.url, cell="canaries", name="tests")
    yield bus
    await bus.close()


@pytest_asyncio.fixture
async def canaries(bus: Bus) -> AsyncIterator[Canaries]:
    """With a patience that never ends: what is lost is lost by its connection."""
    canaries = Canaries(bus, name="own", every_s=0.02, patience_s=NEVER_S, monotonic=time.monotonic)
    await bus.pour(bus.subjects.all_service_heartbeats, lambda _, data: canaries.came_back(Heartbeat.FromString(data)))
    sending = asyncio.create_task(canaries.run())
    yield canaries
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)


async def test_a_server_that_was_away_is_reached_another_way(nats: EmbeddedNats, bus: Bus, canaries: Canaries) -> None:
    async def there() -> bool:
        return canaries.hearing()

    async def gone() -> bool:
        return not canaries.hearing()

    await eventually(there)
    first = canaries.way(SERVER)
    assert first is not None
    assert canaries.way("a leaf") == first, "one that we don't know is behind those that we know"
    await nats.kill()
    await eventually(gone)
    assert canaries.way(SERVER) is None
    await nats.start()
    await eventually(there)
    assert canaries.way(SERVER) not in (None, first)
    await bus.wait_connected()  # a canary may be back before the client knows that it is
    assert bus.server_name == SERVER
