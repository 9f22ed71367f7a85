"""A detector of two replicas with seven hosts, on the run's NATS and Postgres: for all tests of a module.

Whoever silences a host, or ends a replica, brings it back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from core.testing.servers import Cell
from tests.integration.liveness.replicas import Replica, environment, two_replicas
from tests.integration.liveness.world import BeatingHost, World, world

HOSTS = tuple(f"host-{number}" for number in range(1, 8))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def quiet_world(module_cell: Cell) -> AsyncIterator[World]:
    cell = module_cell
    async with world(cell=cell.name, dsn=cell.dsn, nats_urls=[cell.nats_url], credentials=cell.credentials) as quiet:
        yield quiet


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def replicas(
    module_cell: Cell, quiet_world: World, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Replica, Replica]]:
    cell, folder = module_cell, tmp_path_factory.mktemp("replicas")
    settings = environment(
        folder, cell=cell.name, dsn=cell.dsn, nats_urls=[cell.nats_url], credentials=cell.credentials
    )
    async with two_replicas(folder, settings) as both:
        yield both
        for replica in both:
            replica.require_alive()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hosts(quiet_world: World, replicas: tuple[Replica, Replica]) -> list[BeatingHost]:
    return await quiet_world.hosts(*HOSTS)
