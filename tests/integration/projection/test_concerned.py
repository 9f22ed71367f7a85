"""A tail that is told of some types of events only: of those it misses none, and it can tell how far it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio
from nats.aio.msg import Msg

from core.bus import Bus
from core.embedded.nats import EmbeddedNats
from core.eventlog import Append, EventLog, Leases, RecordedEvent
from core.projection import EventStream, EventTail, HistoryChanged
from core.projection.reader import StreamReader
from core.relay import Relay
from tests.integration.bus.journal import CONTEXT, append, new_event, restore_log, until_stream_at

from .conftest import running

CONCERNED = ("cirra.compute.v1.InstanceActivated", "cirra.placement.v1.ClaimMade")
FOR_EVER_S = 3600.0


async def append_concerned(log: EventLog, count: int = 1) -> int:
    """Events of both types, by turns; the last position."""
    events = tuple(replace(new_event(), type=CONCERNED[number % 2]) for number in range(count))
    return (await log.append(Append(events=events, context=CONTEXT))).last_position


async def append_among_others(log: EventLog, rounds: int) -> None:
    """Each round appends 20 events, two of which are of concern."""
    for _ in range(rounds):
        await append(log, 17)
        await append_concerned(log, 2)
        await append(log)


async def take(tail: EventTail, count: int) -> list[RecordedEvent]:
    """So many events of concern; each of the others that are given ends a look at the log."""
    taken: list[RecordedEvent] = []
    async with asyncio.timeout(60):
        while len(taken) < count:
            event = await anext(tail)
            if event.type in CONCERNED:
                taken.append(event)
    return taken


async def concerned(log: EventLog, after: int = 0) -> list[RecordedEvent]:
    return [event for event in await log.read(after=after, limit=10_000) if event.type in CONCERNED]


@pytest_asyncio.fixture
async def tail(log: EventLog, bus: Bus, relay: Relay) -> AsyncIterator[EventTail]:
    """It has taken the only event, by the stream."""
    async with EventTail(bus, log, stall_s=FOR_EVER_S, stream=EventStream(bus, CONCERNED)) as tail:
        following = asyncio.create_task(take(tail, 1))
        await append_concerned(log)
        await following
        yield tail


async def test_it_gives_what_was_and_what_comes_of_its_types(log: EventLog, bus: Bus, relay: Relay) -> None:
    await append_among_others(log, 30)
    async with EventTail(bus, log, stream=EventStream(bus, CONCERNED)) as tail:
        seen = await take(tail, 60)
        writing = asyncio.create_task(append_among_others(log, 20))
        seen += await take(tail, 40)
        await writing
    assert seen == await concerned(log)


async def test_the_server_sends_nothing_else(log: EventLog, bus: Bus, tail: EventTail) -> None:
    await append_among_others(log, 5)
    await take(tail, 10)
    [consumer] = await bus.js.consumers_info(bus.subjects.events_stream)
    assert consumer.delivered is not None
    assert consumer.delivered.consumer_seq <= 11


async def test_a_look_tells_how_far_the_log_is(log: EventLog, tail: EventTail) -> None:
    reading = asyncio.create_task(tail.next())
    head = await append(log, 7)
    tail.look()
    async with asyncio.timeout(60):
        events = await reading
    assert [event.position for event in events] == [head] == [tail.position]


async def test_a_look_before_the_wait_counts(log: EventLog, tail: EventTail) -> None:
    head = await append(log, 3)
    tail.look()
    async with asyncio.timeout(60):
        await tail.next()
    assert tail.position == head


async def test_in_quiet_times_it_looks_by_itself(log: EventLog, bus: Bus, relay: Relay) -> None:
    async with EventTail(bus, log, stall_s=0.2, stream=EventStream(bus, CONCERNED)) as tail:
        await append_concerned(log)
        await take(tail, 1)
        head = await append(log, 3)
        async with asyncio.timeout(60):
            while tail.position < head:
                await tail.next()


async def test_what_gets_lost_on_the_way_is_fetched_again(
    log: EventLog, bus: Bus, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[Msg] = []
    fetch = StreamReader.fetch

    async def without_the_third(reader: StreamReader, limit: int, timeout_s: float) -> list[Msg]:
        messages = await fetch(reader, limit, timeout_s)
        fetched.extend(messages)
        return [message for message in messages if message not in fetched[2:3]]

    monkeypatch.setattr(StreamReader, "fetch", without_the_third)
    seen: list[RecordedEvent] = []

    async def follow(tail: EventTail) -> None:
        async for event in tail:
            seen.append(event)

    async with EventTail(bus, log, stall_s=FOR_EVER_S, stream=EventStream(bus, CONCERNED)) as tail:
        following, head = asyncio.create_task(follow(tail)), 0
        async with asyncio.timeout(60):
            while len(fetched) < 6:
                head = await append_concerned(log)
                await asyncio.sleep(0.01)
            while len(seen) < head:  # noqa: ASYNC110 — what it was told of is with it, sooner or later
                await asyncio.sleep(0.01)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    assert seen == await log.read(after=0)


async def test_what_the_window_has_lost_is_read_from_the_log(log: EventLog, leases: Leases, bus: Bus) -> None:
    async with running(Relay(log, leases, bus, holder="r1")):
        await append_among_others(log, 2)
        await until_stream_at(bus, 40)
        await bus.js.purge_stream(bus.subjects.events_stream, seq=39)
        async with EventTail(bus, log, stall_s=FOR_EVER_S, stream=EventStream(bus, CONCERNED)) as tail:
            tail._behind = False  # as if it had been following: the stream is asked first
            assert await take(tail, 4) == await concerned(log)


async def test_it_survives_the_server(log: EventLog, leases: Leases, own_nats: EmbeddedNats, own_bus: Bus) -> None:
    async with (
        running(Relay(log, leases, own_bus, holder="r1", ack_timeout_s=0.5)),
        EventTail(own_bus, log, stall_s=0.5, stream=EventStream(own_bus, CONCERNED)) as tail,
    ):
        writing = asyncio.create_task(append_among_others(log, 100))
        seen = await take(tail, 20)
        await own_nats.restart()
        seen += await take(tail, 60)
        await own_nats.kill()
        seen += await take(tail, 60)
        await own_nats.start()
        seen += await take(tail, 60)
        await writing
    assert seen == await concerned(log)


async def test_a_restored_log_is_told(log: EventLog, bus: Bus, relay: Relay) -> None:
    async with EventTail(bus, log, stall_s=0.2, stream=EventStream(bus, CONCERNED)) as tail:
        await append_among_others(log, 2)
        await take(tail, 4)
        await restore_log(log, 20)
        with pytest.raises(HistoryChanged):
            await take(tail, 1)
