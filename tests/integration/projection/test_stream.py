"""EventStream: the tails of one process share what the stream tells, and each still misses nothing."""

from __future__ import annotations

import asyncio

import pytest

from core.bus import Bus
from core.eventlog import EventLog, RecordedEvent
from core.projection import EventStream, EventTail
from core.projection import stream as stream_module
from core.relay import Relay
from tests.integration.bus.journal import append, until_stream_at


async def take(tail: EventTail, count: int) -> list[RecordedEvent]:
    async with asyncio.timeout(60):
        return [await anext(tail) for _ in range(count)]


async def consumers(bus: Bus) -> int:
    return (await bus.js.stream_info(bus.subjects.events_stream)).state.consumer_count or 0


async def test_tails_share_one_consumer(log: EventLog, bus: Bus, relay: Relay) -> None:
    stream = EventStream(bus)
    await until_stream_at(bus, await append(log, 10))
    async with EventTail(bus, log, stream=stream) as first, EventTail(bus, log, after=5, stream=stream) as second:
        for tail, count in ((first, 10), (second, 5)):
            await take(tail, count)
        for _ in range(3):
            await append(log, 20)
            seen = await asyncio.gather(take(first, 20), take(second, 20))
            assert seen[0] == seen[1] == await log.read(after=first.position - 20)
        assert await consumers(bus) == 1
    assert await consumers(bus) == 0


async def test_a_tail_may_end_while_another_goes_on(log: EventLog, bus: Bus, relay: Relay) -> None:
    stream = EventStream(bus)
    async with EventTail(bus, log, stream=stream) as stays:
        for _ in range(2):
            async with EventTail(bus, log, after=stays.position, stream=stream) as goes:
                await append(log, 3)
                assert await take(goes, 3) == await take(stays, 3)
        await append(log, 3)
        assert [event.position for event in await take(stays, 3)] == [7, 8, 9]
        assert await consumers(bus) == 1


async def test_a_tail_that_is_behind_the_window_reads_the_log(
    log: EventLog, bus: Bus, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "_WINDOW", 8)
    stream = EventStream(bus)
    async with (
        EventTail(bus, log, stream=stream, stall_s=0.2) as quick,
        EventTail(bus, log, stream=stream, stall_s=0.2) as slow,
    ):
        await append(log, 2)
        await asyncio.gather(take(quick, 2), take(slow, 2))
        for _ in range(5):
            await append(log, 20)
            await take(quick, 20)
        assert await take(slow, 100) == await log.read(after=2)


async def test_all_go_on_when_the_consumer_is_lost(log: EventLog, bus: Bus, relay: Relay) -> None:
    stream = EventStream(bus)
    async with (
        EventTail(bus, log, stream=stream, stall_s=0.5) as first,
        EventTail(bus, log, stream=stream, stall_s=0.5) as second,
    ):
        await append(log, 2)
        await asyncio.gather(take(first, 2), take(second, 2))
        await append(log, 2)
        await asyncio.gather(take(first, 2), take(second, 2))
        for consumer in await bus.js.consumers_info(bus.subjects.events_stream):
            await bus.js.delete_consumer(bus.subjects.events_stream, consumer.name)
        await append(log, 50)
        seen = await asyncio.gather(take(first, 50), take(second, 50))
        assert seen[0] == seen[1] == await log.read(after=4)
