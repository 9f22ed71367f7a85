"""A projection that is told of some types of events only: it gets as far as the log, and who waits for it does."""

from __future__ import annotations

import asyncio

import pytest

from core.bus import Bus
from core.eventlog import EventLog, RecordedEvent
from core.projection import EventStream, Projector
from core.relay import Relay
from core.testing.servers import Cell
from tests.integration.bus.journal import append

from .conftest import MakeProjector, running
from .test_concerned import CONCERNED, FOR_EVER_S, append_among_others, append_concerned, concerned
from .test_gathering import Gathering, until_active
from .test_projector import KEPT


class Picking(Gathering):
    """`heard`: the last position that it was told of, applied or not."""

    def __init__(self) -> None:
        super().__init__()
        self.heard = 0

    def concerns(self, event: RecordedEvent) -> bool:
        self.heard = event.position
        return event.type in CONCERNED


@pytest.fixture
def schema(cell: Cell) -> str:
    return f"{cell.name}_reads"


@pytest.fixture
def news(bus: Bus) -> EventStream:
    return EventStream(bus, CONCERNED)


async def test_who_waits_for_what_concerns_nobody_has_it_look(
    log: EventLog, relay: Relay, make_projector: MakeProjector, schema: str, news: EventStream
) -> None:
    listing = Picking()
    async with running(projector := make_projector(listing, lease_ttl=KEPT, stall_s=FOR_EVER_S, stream=news)):
        await until_active(log, schema)
        for _ in range(3):
            await append_concerned(log)
            assert await projector.wait_for(await append(log, 3), timeout=60)
    assert listing.applied == [event.position for event in await concerned(log)]


async def test_who_waits_at_once_does_too(
    log: EventLog, relay: Relay, make_projector: MakeProjector, schema: str, news: EventStream
) -> None:
    """Of a projection that would not gather."""
    listing = Picking()
    listing.gather_s = 0.0
    async with running(projector := make_projector(listing, lease_ttl=KEPT, stall_s=FOR_EVER_S, stream=news)):
        await until_active(log, schema)
        assert await projector.wait_for(await append(log, 3), timeout=60)
        assert await projector.wait_for(await append(log, 3), timeout=60)


async def test_who_waits_at_another_replica_has_the_active_one_look(
    log: EventLog, relay: Relay, make_projector: MakeProjector, schema: str, bus: Bus
) -> None:
    def projector(holder: str) -> Projector:
        news = EventStream(bus, CONCERNED)
        return make_projector(Picking(), holder, lease_ttl=KEPT, stall_s=FOR_EVER_S, stream=news)

    async with running(projector("active")):
        await until_active(log, schema)
        async with running(replica := projector("idle")):
            for _ in range(3):
                assert await replica.wait_for(await append(log, 3), timeout=60)


async def test_what_follows_is_not_gathered_when_somebody_waits_for_what_was_before(
    log: EventLog, relay: Relay, make_projector: MakeProjector, schema: str, news: EventStream
) -> None:
    """He waits for an event that it is not told of, while it has one after that."""
    listing = Picking()
    async with running(projector := make_projector(listing, lease_ttl=KEPT, stall_s=FOR_EVER_S, stream=news)):
        await until_active(log, schema)
        for _ in range(3):  # from then on it hears of events by the stream
            assert await projector.wait_for(await append_concerned(log), timeout=60)
        assert await projector.wait_for(await append(log), timeout=60)  # and is not about to look
        before = await append(log, 3)
        after = await append_concerned(log)
        async with asyncio.timeout(60):
            while listing.heard < after:  # noqa: ASYNC110 - waiting for it would be hurrying it
                await asyncio.sleep(0.02)
        assert await projector.wait_for(before, timeout=60)


async def test_in_quiet_times_its_checkpoint_follows_the_log(
    log: EventLog, relay: Relay, make_projector: MakeProjector, schema: str, news: EventStream
) -> None:
    async with running(projector := make_projector(Picking(), stall_s=0.2, stream=news)):
        await until_active(log, schema)
        await append_among_others(log, 2)
        head = await append(log, 3)
        async with asyncio.timeout(60):
            while projector.position() < head:  # noqa: ASYNC110 - waiting for it would be hurrying it
                await asyncio.sleep(0.02)
