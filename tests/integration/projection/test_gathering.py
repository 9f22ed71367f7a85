"""A projection that gathers: many events in one transaction, and at once what somebody waits for."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import pytest

from core.eventlog import EventLog, Leases
from core.relay import Relay
from core.testing.servers import Cell

from .conftest import MakeProjector, running
from .listing import Listing, assert_equals_log
from .test_projector import append

LONG_S = 300.0


class Gathering(Listing):
    """Would have its events wait for longer than any test. `transactions`: how many there were."""

    gather_s = LONG_S

    def __init__(self) -> None:
        super().__init__()
        self.transactions = 0

    async def flush(self, connection: object) -> None:
        self.transactions += 1


async def until_active(leases: Leases, schema: str) -> None:
    """Somebody has the projection's lease: another one can't have it."""
    name = f"projection:{schema}:{Listing.name}"
    async with asyncio.timeout(60):
        while (lease := await leases.acquire(name, "test", timedelta(seconds=1))) is not None:
            await leases.release(lease)
            await asyncio.sleep(0.05)


@pytest.fixture
def schema(cell: Cell) -> str:
    return f"{cell.name}_reads"


async def test_what_somebody_waits_for_does_not_wait_for_more(
    log: EventLog, relay: Relay, make_projector: MakeProjector, schema: str
) -> None:
    listing = Gathering()
    async with running(projector := make_projector(listing)):
        began = time.monotonic()
        for _ in range(3):
            assert await projector.wait_for(await append(log, 5), timeout=60)
        assert time.monotonic() - began < LONG_S
        # Each wait had its transaction; the first may have had two, of what was there before.
        assert listing.transactions <= 4
        await assert_equals_log(log, schema)


async def test_the_active_replica_makes_haste_for_who_waits_at_another(
    log: EventLog, leases: Leases, relay: Relay, make_projector: MakeProjector, schema: str
) -> None:
    active, idle = Gathering(), Gathering()
    async with running(make_projector(active, "active")):
        await until_active(leases, schema)
        async with running(replica := make_projector(idle, "idle")):
            began = time.monotonic()
            assert await replica.wait_for(await append(log, 5), timeout=60)
            assert time.monotonic() - began < LONG_S
    assert len(active.applied) == 5
    assert idle.applied == []


async def test_what_nobody_waits_for_is_gathered(
    log: EventLog, leases: Leases, relay: Relay, make_projector: MakeProjector, schema: str
) -> None:
    listing = Gathering()
    listing.gather_s = 0.5
    async with running(make_projector(listing)):
        await until_active(leases, schema)
        for _ in range(5):
            position = await append(log, 1)
        async with asyncio.timeout(60):
            while listing.applied[-1:] != [position]:  # noqa: ASYNC110 - asking the projector would be waiting
                await asyncio.sleep(0.02)
    assert listing.transactions <= 2
