"""A log, and one replica on it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from core.context import current_context
from core.eventlog.log import EventLog
from core.repository import Repository
from core.sealing import Keyring
from core.testing.servers import Cell
from tests.integration.saga.world import Replica, World


@pytest.fixture
async def repository(cell: Cell) -> AsyncIterator[Repository]:
    schema = f"{cell.schema}_log"
    log = await EventLog.open(cell.dsn, schema=schema)
    yield Repository(log, Keyring(log.pool, schema, bytes(32)), current_context)
    await log.close()


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def replica(repository: Repository, world: World) -> AsyncIterator[Replica]:
    replica = Replica(repository, world, "conductor-1")
    yield replica
    await replica.engine.stop()
