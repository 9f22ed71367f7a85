"""EventTail: gapless, in order, once, whatever the stream does."""

from __future__ import annotations

import asyncio

import pytest

from core.bus import Bus
from core.embedded.nats import EmbeddedNats
from core.eventlog import EventLog, Leases, RecordedEvent
from core.projection import EventTail, HistoryChanged
from core.relay import Relay
from tests.integration.bus.journal import append, restore_log, until_stream_at

from .conftest import running


async def take(tail: EventTail, count: int, timeout_s: float = 30.0) -> list[RecordedEvent]:
    async with asyncio.timeout(timeout_s):
        return [await anext(tail) for _ in range(count)]


async def test_it_reads_what_was_and_follows_what_comes(log: EventLog, bus: Bus, relay: Relay) -> None:
    await append(log, 1_200)
    async with EventTail(bus, log) as tail:
        seen = await take(tail, 1_200)
        writing = asyncio.create_task(append(log, 800, per_append=3))
        seen += await take(tail, 800)
        await writing
    assert seen == await log.read(after=0, limit=3_000)


async def test_it_begins_where_it_is_told(log: EventLog, bus: Bus, relay: Relay) -> None:
    await append(log, 100)
    async with EventTail(bus, log, after=90) as tail:
        assert [event.position for event in await take(tail, 10)] == list(range(91, 101))
        assert await tail.next(patient=False) == []
        await append(log, 2)
        assert [event.position for event in await take(tail, 2)] == [101, 102]


async def test_it_needs_no_stream(log: EventLog, bus: Bus) -> None:
    """No relay runs, and in the end there is no stream at all."""
    async with EventTail(bus, log, stall_s=0.2) as tail:
        await append(log, 10)
        assert len(await take(tail, 10)) == 10
        await append(log, 10)
        assert len(await take(tail, 10)) == 10
        await bus.js.delete_stream(bus.subjects.events_stream)
        await append(log, 10)
        assert [event.position for event in await take(tail, 10)] == list(range(21, 31))


@pytest.mark.breaks("STREAM")
async def test_a_gap_in_the_stream_is_filled_from_the_log(log: EventLog, leases: Leases, bus: Bus) -> None:
    async with running(Relay(log, leases, bus, holder="r1")):
        await until_stream_at(bus, await append(log, 50))
    for position in (12, 13, 30, 49):
        await bus.js.delete_msg(bus.subjects.events_stream, position)
    async with EventTail(bus, log, after=10, stall_s=60.0) as tail:
        tail._behind = False  # as if it had been following: the stream is asked first
        seen = await take(tail, 40)
    assert seen == await log.read(after=10)


async def test_it_survives_the_server(log: EventLog, leases: Leases, own_nats: EmbeddedNats, own_bus: Bus) -> None:
    async with (
        running(Relay(log, leases, own_bus, holder="r1", ack_timeout_s=0.5)),
        EventTail(own_bus, log, stall_s=0.5) as tail,
    ):
        writing = asyncio.create_task(append(log, 3_000, per_append=5))
        seen = await take(tail, 100)
        await own_nats.restart()
        seen += await take(tail, 900)
        await own_nats.kill()
        seen += await take(tail, 1_000)
        await own_nats.start()
        seen += await take(tail, 1_000)
        await writing
    assert seen == await log.read(after=0, limit=5_000)


async def test_a_restored_log_is_told(log: EventLog, bus: Bus, relay: Relay) -> None:
    async with EventTail(bus, log, stall_s=0.2) as tail:
        await append(log, 30)
        await take(tail, 30)
        await restore_log(log, 20)
        with pytest.raises(HistoryChanged):
            await take(tail, 1)
    async with EventTail(bus, log, after=30, event_id=(await log.read(after=19))[0].event_id) as stale:
        with pytest.raises(HistoryChanged):
            await take(stale, 1)


async def test_a_restore_behind_the_reader_does_not_matter(log: EventLog, bus: Bus, relay: Relay) -> None:
    """Nothing that was read has changed: the new epoch is taken note of, and on it goes."""
    async with EventTail(bus, log, stall_s=0.2) as tail:
        await append(log, 20)
        seen = await take(tail, 20)
        await restore_log(log, 20)
        await append(log, 10, payload="new")
        seen += await take(tail, 10)
    assert seen == await log.read(after=0)
    assert [event.epoch for event in seen] == [1] * 20 + [2] * 10


async def test_a_closed_tail_leaves_no_consumer(log: EventLog, bus: Bus, relay: Relay) -> None:
    async with EventTail(bus, log) as tail:
        await until_stream_at(bus, await append(log))
        await take(tail, 1)
        await append(log)
        await take(tail, 1)
        assert (await bus.js.stream_info(bus.subjects.events_stream)).state.consumer_count == 1
    assert (await bus.js.stream_info(bus.subjects.events_stream)).state.consumer_count == 0
