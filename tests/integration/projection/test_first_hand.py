"""The process that relays the log hears by itself what it has published: in order, once, without a gap, and only what
is in the stream."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from core.bus import Bus
from core.embedded.nats import EmbeddedNats
from core.eventlog import EventLog, Leases, RecordedEvent
from core.projection import EventStream, EventTail
from core.relay import Relay
from core.relay.pipeline import Pipeline, PipelineBroken
from tests.integration.bus.handling import eventually
from tests.integration.bus.journal import append

from .conftest import running
from .test_stream import consumers, take

FOR_EVER_S = 3600.0
"""A tail that rests so long between looks at the log goes by what it is told."""


def make(log: EventLog, leases: Leases, bus: Bus, stream: EventStream | None = None, lease: str = "relay") -> Relay:
    return Relay(log, leases, bus, holder=lease, lease_name=lease, ack_timeout_s=0.5, idle_check_s=0.2, hearer=stream)


async def asks_nats(bus: Bus) -> bool:
    await bus.wait_connected()
    return await consumers(bus) == 1


async def until_told(log: EventLog, tail: EventTail, bus: Bus) -> None:
    """Appends and takes until the process has no need of NATS. A tail reads the log before it asks NATS for the first
    time: so this must last."""
    rounds = 0
    async with asyncio.timeout(60):
        while rounds < 3:
            await append(log, 3)
            assert await take(tail, 3) == await log.read(after=tail.position - 3)
            rounds = 0 if await asks_nats(bus) else rounds + 1


async def test_who_relays_does_not_ask_nats(log: EventLog, leases: Leases, bus: Bus) -> None:
    stream = EventStream(bus)
    async with (
        running(make(log, leases, bus, stream)),
        EventTail(bus, log, stall_s=FOR_EVER_S, stream=stream) as first,
        EventTail(bus, log, stall_s=FOR_EVER_S, stream=stream) as second,
    ):
        await append(log, 2)
        await asyncio.gather(take(first, 2), take(second, 2))
        await until_told(log, first, bus)
        await append(log, 300, per_append=7)
        begun = first.position
        assert await take(first, 300) == await log.read(after=begun)
        assert await take(second, first.position - second.position) == await log.read(after=2)
        assert not await asks_nats(bus)


async def test_who_relays_no_more_asks_nats_again(log: EventLog, leases: Leases, bus: Bus) -> None:
    stream = EventStream(bus)
    async with EventTail(bus, log, stall_s=FOR_EVER_S, stream=stream) as tail:
        for _ in range(3):
            async with running(make(log, leases, bus, stream)):
                await append(log, 2)
                assert await take(tail, 2) == await log.read(after=tail.position - 2)
                await until_told(log, tail, bus)
            await eventually(lambda: asks_nats(bus))
            async with running(make(log, leases, bus)):
                await append(log, 50, per_append=3)
                begun = tail.position
                assert await take(tail, 50) == await log.read(after=begun)


async def test_two_relays_at_once(log: EventLog, leases: Leases, bus: Bus) -> None:
    """As if this one had been paused, and did not know that it lost its lease. Each is refused what the other has
    published, and tells nothing of it."""
    stream = EventStream(bus)
    async with (
        running(make(log, leases, bus, stream, "one"), make(log, leases, bus, None, "two")),
        EventTail(bus, log, stall_s=FOR_EVER_S, stream=stream) as tail,
    ):
        for _ in range(20):
            await asyncio.gather(append(log, 50, per_append=1), append(log, 50))
            begun = tail.position
            assert await take(tail, 100) == await log.read(after=begun)


async def test_it_survives_the_server(log: EventLog, leases: Leases, own_nats: EmbeddedNats, own_bus: Bus) -> None:
    stream = EventStream(own_bus)
    async with (
        running(make(log, leases, own_bus, stream)),
        EventTail(own_bus, log, stall_s=0.5, stream=stream) as tail,
    ):
        await append(log, 2)
        await take(tail, 2)
        await until_told(log, tail, own_bus)
        begun = tail.position
        writing = asyncio.create_task(append(log, 3_000, per_append=5))
        seen = await take(tail, 100)
        await own_nats.restart()
        seen += await take(tail, 900)
        await own_nats.kill()
        seen += await take(tail, 1_000)
        await own_nats.start()
        seen += await take(tail, 1_000)
        await writing
        assert seen == await log.read(after=begun, limit=5_000)
        await until_told(log, tail, own_bus)


class Heard:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.positions: list[int] = []
        self.interruptions = 0

    def published(self, events: Sequence[RecordedEvent]) -> None:
        self.positions += [event.position for event in events]

    def interrupted(self) -> None:
        self.interruptions += 1


async def test_what_is_refused_is_not_told(log: EventLog, bus: Bus) -> None:
    await append(log, 10)
    events, heard = await log.read(after=0), Heard()
    with pytest.raises(PipelineBroken):
        async with Pipeline(bus, 0, ack_timeout_s=5.0, hearer=heard) as pipeline:
            await pipeline.send(events[:4])
            await pipeline.settle()
            async with Pipeline(bus, 4, ack_timeout_s=5.0) as another:
                await another.send(events[4:])
                await another.settle()
            await pipeline.send(events[4:])
            await pipeline.settle()
    assert heard.positions == [1, 2, 3, 4]
    assert heard.interruptions == 1


async def test_what_does_not_follow_is_left_to_nats(log: EventLog, bus: Bus) -> None:
    await append(log, 10)
    events, stream = await log.read(after=0), EventStream(bus)
    cursor = stream.cursor()
    assert await cursor.open(1)

    async def heard() -> list[int]:
        return [message.sequence for message in await cursor.fetch(100, 0.0)]

    stream.published(events[4:])
    assert await heard() == []
    stream.published(events[:4])
    assert await heard() == [1, 2, 3, 4]
    stream.published(events[2:])
    assert await heard() == [5, 6, 7, 8, 9, 10]
    await cursor.close()
