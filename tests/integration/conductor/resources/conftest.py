"""A fresh log with two replicas of the commands on it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from core.eventlog.log import EventLog
from core.testing.servers import Cell
from tests.integration.conductor.resources.world import Commands, World


@pytest_asyncio.fixture
async def world(cell: Cell) -> AsyncIterator[World]:
    first = await EventLog.open(cell.dsn, schema=f"{cell.name}_log")
    second = await EventLog.open(cell.dsn, schema=f"{cell.name}_log")
    yield await World.make(Commands(first, seed=1), Commands(second, seed=2))
    await first.close()
    await second.close()
