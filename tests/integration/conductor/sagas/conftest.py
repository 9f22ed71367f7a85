"""A control plane per module: two of each service, two hosts that take guests; tests are isolated by instance."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from core.embedded.nats import EmbeddedNats
from core.embedded.postgres import EmbeddedPostgres
from core.natsauth.keys import NatsKeys
from core.testing.servers import Cell
from tests.harness.instance_sagas import CreateStage, DeleteStage, interposed_plane


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_cell(
    postgres_server: EmbeddedPostgres,
    nats_server: EmbeddedNats,
    nats_keys: NatsKeys,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Cell]:
    """As `cell`, for all tests of a module."""
    folder = tmp_path_factory.mktemp("cell")
    cell = Cell(f"t{secrets.token_hex(6)}", postgres_server.dsn, nats_server.url, nats_keys, folder)
    connection = await asyncpg.connect(cell.dsn)
    await connection.execute(f"CREATE SCHEMA {cell.schema}")
    await connection.close()
    yield cell
    await cell.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stages(
    module_cell: Cell, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[CreateStage, DeleteStage]]:
    """For the tests of a module: they don't meet, each has an instance of its own."""
    async with interposed_plane(module_cell, tmp_path_factory.mktemp("plane")) as both:
        yield both


@pytest.fixture
def create(stages: tuple[CreateStage, DeleteStage]) -> CreateStage:
    return stages[0]


@pytest.fixture
def delete(stages: tuple[CreateStage, DeleteStage]) -> DeleteStage:
    return stages[1]
