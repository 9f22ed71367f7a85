"""NATS away, whole or in part: a detector that could not have heard blames nobody."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

import nats.errors
import nats.js.errors
import pytest
import pytest_asyncio

from core.bus import Bus, connect
from core.embedded.postgres import EmbeddedPostgres
from placement.hosts.host import Evacuation, Health
from tests.integration.bus.cluster import NatsCluster
from tests.integration.bus.handling import eventually
from tests.integration.liveness.replicas import WINDOW_S, environment, two_replicas
from tests.integration.liveness.world import PATIENCE_S, BeatingHost, World, world

pytestmark = pytest.mark.asyncio(loop_scope="module")


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
async def clustered(
    cluster: NatsCluster, postgres_server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    cell, folder = f"t{secrets.token_hex(6)}", tmp_path_factory.mktemp("replicas")
    settings = environment(folder, cell=cell, dsn=postgres_server.dsn, nats_urls=cluster.urls)
    async with (
        world(cell=cell, dsn=postgres_server.dsn, nats_urls=cluster.urls) as running,
        two_replicas(folder, settings) as replicas,
    ):
        yield running
        for replica in replicas:
            replica.require_alive()


async def _first_at(cluster: NatsCluster, server: str, cell: str) -> Bus:
    """A connection that knows all servers and is at this one."""
    while True:
        bus = await connect(cluster.urls, cell=cell, name="mover")
        if bus.server_name == server:
            return bus
        await bus.close()


async def test_hosts_of_a_server_that_is_out_of_reach(clustered: World, cluster: NatsCluster) -> None:
    """One that finds another server is never declared; one that can't is, and held; one that dies meanwhile is."""
    pinned, *far = await clustered.hosts("pinned", servers=[cluster.url("n2")])
    assert not far
    near, dead = await clustered.hosts("near", "dead", servers=[cluster.url("n0")])
    bystanders = await clustered.hosts("by-1", "by-2", servers=[cluster.url("n1")])
    mover = BeatingHost("mover", await _first_at(cluster, "n2", clustered.bus.cell))
    await clustered.enrol(mover.name)
    mover.beat()
    await clustered.until(mover, Health.UP)
    before = await clustered.position()
    cluster.pause("n2")
    try:
        await dead.silence()
        await clustered.until(dead, Health.DOWN)
        assert (await clustered.downs(before))[0] == "dead", "the silence of others proves nothing yet"
        found = await clustered.until(pinned, Health.DOWN)
        assert found.evacuation is Evacuation.HELD
        [held] = [each.message for each in await clustered.declared(before) if each.event == "HostEvacuationHeld"]
        assert "n2" in held.reason
        await eventually(lambda: asyncio.sleep(0, result=mover.bus.server_name in {"n0", "n1"}))
        assert sorted(await clustered.downs(before)) == ["dead", "pinned"]
        assert (await clustered.aggregate(dead)).evacuation is Evacuation.ALLOWED
    finally:
        cluster.resume("n2")
    await clustered.until(pinned, Health.UP)
    for host in (mover, near, *bystanders):
        await clustered.until(host, Health.UP)
        await host.silence()
    assert sorted(await clustered.downs(before)) == ["dead", "pinned"]
    await pinned.silence()
    await mover.bus.close()


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
    mine = {host.name for host in hosts}
    assert not mine & {*await clustered.downs(before)}
    await hosts[0].silence()
    await clustered.until(hosts[0], Health.DOWN)
    for host in hosts:
        await host.silence()
