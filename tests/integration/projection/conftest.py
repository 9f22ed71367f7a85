"""A log, a bus with streams, a working relay, and projectors on a counting projection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from core.bus import Bus
from core.eventlog import EventLog, Leases
from core.projection import Projector
from core.relay import Relay
from core.testing.servers import Cell
from tests.integration.bus.conftest import invariants as invariants

from .listing import Listing

MakeProjector = Callable[..., Projector]


@pytest.fixture
def make_projector(cell: Cell, log: EventLog, leases: Leases, bus: Bus) -> MakeProjector:
    """A projector of a `Listing` in schema `<cell>_reads`."""

    def make(projection: Listing | None = None, holder: str = "p1", **options: Any) -> Projector:
        return Projector(
            projection or Listing(),
            **{
                "log": log,
                "bus": bus,
                "leases": leases,
                "schema": f"{cell.name}_reads",
                "holder": holder,
                "lease_ttl": timedelta(seconds=3),
                "stall_s": 0.3,
                **options,
            },
        )

    return make


@pytest_asyncio.fixture
async def relay(log: EventLog, leases: Leases, bus: Bus) -> AsyncIterator[Relay]:
    relay = Relay(log, leases, bus, holder="r1", ack_timeout_s=0.5, idle_check_s=0.2)
    async with running(relay):
        yield relay


@asynccontextmanager
async def running(*parts: Relay | Projector) -> AsyncIterator[None]:
    """Each part's `run` as a task; one that ended by itself fails the test."""
    async with AsyncExitStack() as stack:
        for part in parts:
            await stack.enter_async_context(_running(part))
        yield


@asynccontextmanager
async def _running(part: Relay | Projector) -> AsyncIterator[None]:
    task = asyncio.create_task(part.run())
    try:
        yield
        assert not task.done(), f"it ended: {task}"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
