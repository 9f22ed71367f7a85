"""The block-agent as a process: its host is alive and has a pool."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cirra.agent.v1.desired_pb2 import Heartbeat, Report
from core.bus import ensure_command_consumer
from core.embedded.nats import EmbeddedNats
from core.natsauth.keys import NatsKeys
from core.pki.authority import Authority
from tests.integration.agent.world import HOST, World, until


@pytest.fixture
async def world(
    cell_name: str, nats_server: EmbeddedNats, nats_keys: NatsKeys, authority: Authority, tmp_path: Path
) -> AsyncIterator[World]:
    made = await World.make(cell_name, nats_server.url, nats_keys, authority, tmp_path)
    await ensure_command_consumer(made.bus, HOST, ("block",))
    yield made
    await made.close()


async def test_it_beats_and_tells_its_pool(world: World, tmp_path: Path) -> None:
    beats: list[Heartbeat] = []

    async def collect(message: object) -> None:
        beats.append(Heartbeat.FromString(message.data))  # type: ignore[attr-defined]

    await world.bus.nc.subscribe(world.bus.subjects.heartbeats(HOST, "block"), cb=collect)
    environment = {
        "CIRRA_HOST_DIRECTORY": str(world.identity().folder),
        "CIRRA_STATE_DIRECTORY": str(tmp_path / "state"),
        "CIRRA_POOL_NAME": "disk-1",
        "CIRRA_HEARTBEAT_INTERVAL_S": "0.1",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "block_agent", env={**os.environ, **environment}
    )
    try:

        def inventories() -> list[Report]:
            return [report for report in world.reports_on(HOST) if report.HasField("inventory")]

        await until(inventories, "the inventory is reported")
        await until(lambda: len(beats) >= 2, "it beats")
    finally:
        process.terminate()
        assert await process.wait() == 0
    report = inventories()[0]
    pool = report.inventory.storage_pools[0]
    assert (report.agent, pool.name, pool.backend) == ("block", "disk-1", "file")
    assert pool.capacity_gib > 0 and 0 <= pool.free_gib <= pool.capacity_gib
    assert (beats[0].component, beats[0].instance) == ("block", HOST)
    assert beats[1].sequence > beats[0].sequence
