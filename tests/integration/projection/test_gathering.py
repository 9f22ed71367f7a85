"""A projection that gathers: many events in one transaction, and at once what somebody waits for."""

from __future__ import annotations

import asyncio
import time

import pytest

from core.eventlog import EventLog
from core.relay import Relay
from core.testing.servers import Cell

from .conftest import MakeProjector, running
from .listing import Listing, assert_equals_log
from .test_projector import KEPT, append

LONG_S = 300.0


class Gathering(Listing):
    """Would have its events wait for longer than any test. `transactions`: how many there were."""

    gather_s = LONG_S

    def __init__(self) -> None:
        super().__init__()
        self.transactions = 0

    async def flush(self, connection: object) -> None:
        self.transactions += 1


async def until_active(log: EventLog, schema: str) -> None:
    """Somebody has the projection's lease."""
    held = f'SELECT EXISTS (SELECT FROM "{log.schema}".leases WHERE name = $1 AND expires_at > clock_timestamp())'
    async with asyncio.timeout(60):
        while not await log.pool.fetchval(held, f"projection:{schema}:{Listing.name}"):  # noqa: ASYNC110 - Postgres knows
            await asyncio.sleep(0.05)


@pytest.fixture
def schema(cell: Cell) -> str:
    return f"{cell.name}_reads"


async def test_what_somebody_waits_for_does_not_wait_for_more(
    log: EventLog, relay: Relay, make_projector: MakeProjector, schema: str
) -> None:
    listing = Gathering()
    async with running(projector := make_projector(listing, lease_ttl=KEPT)):
        began = time.monotonic()
        for _ in range(3):
            assert await projector.wait_for(await append(log, 5), timeout=60)
        assert time.monotonic() - began < LONG_S
        # Each wait had its transaction; the first may have had two, of what was there before.
        assert listing.transactions <= 4
        await assert_equals_log(log, schema)


async def test_the_active_replica_makes_haste_for_who_waits_at_another(
    log: EventLog, relay: Relay, make_projector: MakeProjector, schema: str
) -> None:
    active, idle = Gathering(), Gathering()
    async with running(make_projector(active, "active", lease_ttl=KEPT)):
        await until_active(log, schema)
        async with running(replica := make_projector(idle, "idle", lease_ttl=KEPT)):
            began = time.monotonic()
            assert await replica.wait_for(await append(log, 5), timeout=60)
            assert time.monotonic() - began < LONG_S
    assert len(active.applied) == 5
    assert idle.applied == []


async def test_what_nobody_waits_for_is_gathered(
    log: EventLog, relay: Relay, make_projector: MakeProjector, schema: str
) -> None:
    """Until somebody does: quiet times, which end it too, don't come here."""
    listing = Gathering()
    async with running(projector := make_projector(listing, lease_ttl=KEPT, stall_s=LONG_S)):
        await until_active(log, schema)
        for _ in range(5):
            position = await append(log, 1)
        assert await projector.wait_for(position, timeout=60)
    assert listing.applied == list(range(1, position + 1))
    # What was there when it began may have had one of its own.
    assert listing.transactions <= 2


async def test_what_nobody_waits_for_comes_all_the_same(
    log: EventLog, relay: Relay, make_projector: MakeProjector, schema: str
) -> None:
    listing = Gathering()
    listing.gather_s = 0.5
    async with running(make_projector(listing, stall_s=LONG_S)):
        await until_active(log, schema)
        position = await append(log, 1)
        async with asyncio.timeout(60):
            while listing.applied[-1:] != [position]:  # noqa: ASYNC110 - asking the projector would be waiting
                await asyncio.sleep(0.02)
