"""A cluster of three: sequence = position also when the leader of EVENTS is killed, twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import nats.errors
import pytest_asyncio

from core.bus import Bus, connect, ensure_streams
from core.bus.streams import StreamSettings
from core.eventlog import EventLog, Leases
from core.relay import Relay

from .cluster import NatsCluster, leader_of
from .handling import eventually
from .journal import append, assert_mirrors, last_sequence
from .test_relay import relaying


@pytest_asyncio.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[NatsCluster]:
    async with NatsCluster(tmp_path) as cluster:
        yield cluster


@pytest_asyncio.fixture
async def clustered_bus(cluster: NatsCluster, cell_name: str) -> AsyncIterator[Bus]:
    bus = await connect(cluster.urls, cell=cell_name, name="test")

    async def streams_made() -> bool:
        with suppress(nats.errors.Error):  # until the cluster has chosen its leader
            await ensure_streams(bus, settings=StreamSettings(replicas=3))
            return True
        return False

    await eventually(streams_made, 60)
    yield bus
    await bus.close()


async def test_the_leader_is_killed(log: EventLog, leases: Leases, cluster: NatsCluster, clustered_bus: Bus) -> None:
    bus = clustered_bus
    async with relaying(Relay(log, leases, bus, holder="r1", ack_timeout_s=1.0, refill=100_000)):
        writing = asyncio.create_task(append(log, 5_000, per_append=10))
        for at in (1_000, 3_000):
            await eventually(lambda at=at: reached(bus, at))  # type: ignore[misc]
            leader = await leader_of(bus, bus.subjects.events_stream)
            await cluster.kill(leader)
            await eventually(lambda at=at: reached(bus, at + 500), 60)  # type: ignore[misc]
            await cluster.start(leader)
        assert await writing == 5_000
        await eventually(lambda: reached(bus, 5_000), 60)
    await assert_mirrors(bus, log)


async def reached(bus: Bus, sequence: int) -> bool:
    """False also while the stream has no leader that could tell."""
    with suppress(nats.errors.Error):
        return await last_sequence(bus) >= sequence
    return False
