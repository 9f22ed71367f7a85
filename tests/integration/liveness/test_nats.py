"""NATS away, whole or in part: a detector that could not have heard blames nobody."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import nats.errors
import nats.js.errors
import pytest
import pytest_asyncio

from cirra.placement.v1 import events_pb2 as pb
from core.bus import Bus, connect
from core.embedded.postgres import EmbeddedPostgres
from placement.hosts.host import Evacuation, Health
from tests.harness.promptness import in_rounds, in_time
from tests.integration.bus.cluster import NatsCluster
from tests.integration.bus.handling import eventually
from tests.integration.liveness.replicas import WINDOW_S, Replica, environment, two_replicas
from tests.integration.liveness.world import BEAT_S, LATE_S, PATIENCE_S, World, world

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Pings that find out that a server is dead, and an own connection to another one.
FOUND_ANOTHER_S = 20.0
# As `Tracker.patience_in_doubt_s`; the detector itself may first have to find another server.
IN_DOUBT_S = WINDOW_S * 5

Replicas = tuple[Replica, Replica]
Test = Callable[[World, NatsCluster], Awaitable[None]]


def from_the_beginning(test: Test) -> Callable[[World, Replicas, NatsCluster], Awaitable[None]]:
    """Both replicas run and nobody beats when a round of it begins."""

    async def rounds(clustered: World, replicas: Replicas, cluster: NatsCluster) -> None:
        async def play() -> None:
            await clustered.silence_all()
            await clustered.as_ever(replicas, ())
            await test(clustered, cluster)

        await in_rounds(play, late_s=LATE_S, pids=lambda: [pid for replica in replicas for pid in replica.pids])

    rounds.__doc__ = test.__doc__
    return rounds


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NatsCluster]:
    async with NatsCluster(tmp_path_factory.mktemp("cluster"), advertise=False) as running:
        bus = await connect(running.urls, cell="none", name="tests")
        await eventually(lambda: _has_leader(bus))
        await bus.close()
        yield running


async def _has_leader(bus: Bus) -> bool:
    """Of JetStream in the cluster: before, it makes no streams."""
    try:
        await bus.js.account_info()
    except (nats.errors.Error, nats.js.errors.Error):
        return False
    return True


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def clustered(cluster: NatsCluster, postgres_server: EmbeddedPostgres) -> AsyncIterator[World]:
    cell = f"t{secrets.token_hex(6)}"
    async with world(cell=cell, dsn=postgres_server.dsn, nats_urls=cluster.urls) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def replicas(
    clustered: World, cluster: NatsCluster, postgres_server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Replicas]:
    folder = tmp_path_factory.mktemp("replicas")
    settings = environment(folder, cell=clustered.bus.cell, dsn=postgres_server.dsn, nats_urls=cluster.urls)
    async with two_replicas(folder, settings) as both:
        yield both
        for replica in both:
            replica.require_alive()


async def _first_at(cluster: NatsCluster, server: str, cell: str) -> Bus:
    """A connection that knows all servers and is at this one."""
    while True:
        bus = await connect(cluster.urls, cell=cell, name="mover")
        if bus.server_name == server:
            return bus
        await bus.close()


@from_the_beginning
async def test_hosts_of_a_server_that_is_out_of_reach(clustered: World, cluster: NatsCluster) -> None:
    """One that finds another server is never declared; one that can't is, and held; one that dies meanwhile is."""
    pinned, *far = await clustered.hosts("pinned", servers=[cluster.url("n2")])
    assert not far
    near, dead = await clustered.hosts("near", "dead", servers=[cluster.url("n0")])
    bystanders = await clustered.hosts("by-1", "by-2", servers=[cluster.url("n1")])
    mover = await clustered.host("mover", bus=await _first_at(cluster, "n2", clustered.bus.cell))
    await clustered.until(mover, Health.UP)
    before, paused_at = await clustered.position(), await clustered.now()
    cluster.pause("n2")
    try:
        await dead.silence()
        await clustered.until(dead, Health.DOWN, FOUND_ANOTHER_S + WINDOW_S * 2)
        assert (await clustered.downs(before))[0] == "dead", "the silence of others proves nothing yet"
        found = await clustered.until(pinned, Health.DOWN, FOUND_ANOTHER_S + IN_DOUBT_S * 2)
        doubted = await clustered.first(pb.HostDown, before, "pinned") - paused_at
        in_time(doubted >= timedelta(seconds=IN_DOUBT_S - BEAT_S), f"in doubt it is waited for: {doubted}")
        assert found.evacuation is Evacuation.HELD
        [held] = [each.message for each in await clustered.declared(before) if each.event == "HostEvacuationHeld"]
        assert "n2" in held.reason
        in_time(mover.bus.server_name in {"n0", "n1"}, "who can has found another server by then")
        assert sorted(await clustered.downs(before)) == ["dead", "pinned"]
        assert (await clustered.aggregate(dead)).evacuation is Evacuation.ALLOWED
    finally:
        cluster.resume("n2")
    await clustered.until(pinned, Health.UP)
    await clustered.all_up([mover, near, *bystanders])
    assert sorted(await clustered.downs(before)) == ["dead", "pinned"]


@from_the_beginning
async def test_nobody_is_marked_down_while_nats_is_away_nor_after(clustered: World, cluster: NatsCluster) -> None:
    hosts = await clustered.hosts("a", "b", "c", servers=cluster.urls)
    before = await clustered.position()
    for name in cluster.names:
        await cluster.kill(name)
    await asyncio.sleep(WINDOW_S * 3)
    for name in cluster.names:
        await cluster.start(name)
    async with asyncio.timeout(PATIENCE_S):
        for host in hosts:
            await host.bus.wait_connected()
    await asyncio.sleep(WINDOW_S * 2)
    await clustered.nothing_declared(before, hosts)
    await hosts[0].silence()
    await clustered.until(hosts[0], Health.DOWN, WINDOW_S * 8)
