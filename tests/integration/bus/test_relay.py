"""The relay: in stream EVENTS the sequence equals the position, whatever happens; nothing is lost."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from nats.errors import Error as NatsError

from core.bus import Bus, Poison, StreamSettings, ensure_streams
from core.bus.envelope import recorded_event_from_message
from core.bus.streams import events_config
from core.embedded.nats import EmbeddedNats
from core.eventlog import Append, EventLog, Leases
from core.eventlog.types import MAX_EVENT_BYTES
from core.projection import EventTail
from core.relay import Relay
from core.testing.servers import Cell

from .handling import eventually
from .journal import append, assert_mirrors, last_sequence, new_event, restore_log, until_stream_at

QUICK = {"ack_timeout_s": 0.5, "idle_check_s": 0.2}
NEVER_S = 3600.0


@asynccontextmanager
async def relaying(relay: Relay) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(relay.run())
    try:
        yield task
        assert not task.done(), f"the relay ended: {task}"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def make(log: EventLog, leases: Leases, bus: Bus, holder: str = "r1", **options: object) -> Relay:
    return Relay(log, leases, bus, holder=holder, **{**QUICK, **options})  # type: ignore[arg-type]


async def test_events_of_many_writers_come_in_order(log: EventLog, leases: Leases, bus: Bus) -> None:
    async with relaying(make(log, leases, bus)):
        await asyncio.gather(*(append(log, 100, per_append=1 + writer % 3) for writer in range(10)))
        await until_stream_at(bus, 1000)
    await assert_mirrors(bus, log)


@asynccontextmanager
async def never_polling(cell: Cell) -> AsyncIterator[EventLog]:
    """Another replica of the cell's log."""
    log = await EventLog.open(cell.dsn, schema=f"{cell.name}_log", pool_size=2, poll_interval_s=NEVER_S)
    try:
        yield log
    finally:
        await log.close()


async def test_an_event_is_in_the_stream_at_once(cell: Cell, leases: Leases, bus: Bus) -> None:
    """Whoever appends it: the relay hears of it. It looks for itself so seldom that this can't be what it goes by."""
    async with never_polling(cell) as log, never_polling(cell) as other, AsyncExitStack() as stack:
        relay = make(log, leases, bus, idle_check_s=NEVER_S)
        await stack.enter_async_context(relaying(relay))
        for _ in range(10):
            await until_stream_at(bus, await append(log))
            await until_stream_at(bus, await append(other))
        assert await last_sequence(bus) == 20
        await eventually(lambda: has_reached(relay, 20))


async def test_a_relay_killed_in_the_middle_is_followed_by_another(log: EventLog, leases: Leases, bus: Bus) -> None:
    total = await append(log, 12_000, per_append=1000)
    for number, stop_at in enumerate((1, 3_000, 6_500, 9_001)):
        relay = make(log, leases, bus, f"r{number}", refill=total)
        async with relaying(relay):
            await until_stream_at(bus, stop_at)
    async with relaying(make(log, leases, bus, "last", refill=total)):
        await until_stream_at(bus, total)
    await assert_mirrors(bus, log)


async def test_two_relays_at_once_are_harmless(log: EventLog, leases: Leases, bus: Bus) -> None:
    """They hold different leases, as if one of them had been paused and did not know that it lost its own."""
    one = make(log, leases, bus, "r1", lease_name="one")
    two = make(log, leases, bus, "r2", lease_name="two")
    async with relaying(one), relaying(two):
        for _ in range(20):
            await asyncio.gather(append(log, 50, per_append=1), append(log, 150))
        await until_stream_at(bus, 4000)
        await eventually(lambda: asyncio.sleep(0.01, result=one.position == two.position == 4000))
    await assert_mirrors(bus, log)


async def test_one_of_two_replicas_is_active_until_it_ends(log: EventLog, leases: Leases, bus: Bus) -> None:
    options = {"lease_ttl": timedelta(minutes=1)}  # longer than any stall of a busy machine
    one, two = make(log, leases, bus, "r1", **options), make(log, leases, bus, "r2", **options)
    async with relaying(one):
        await until_stream_at(bus, await append(log, 10))
        async with relaying(two) as second:
            await until_stream_at(bus, await append(log, 10))
            await eventually(lambda: has_reached(one, 20))
            assert two.position == 0
            assert not second.done()
    async with relaying(two):
        await until_stream_at(bus, await append(log, 10))
        await eventually(lambda: has_reached(two, 30))


async def has_reached(relay: Relay, position: int) -> bool:
    """It hears of the stream's end a moment after that is there."""
    return relay.position == position


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_the_nats_server_restarts(
    log: EventLog, leases: Leases, own_nats: EmbeddedNats, own_bus: Bus, end: str
) -> None:
    async with relaying(make(log, leases, own_bus)):
        for _ in range(3):
            writing = asyncio.create_task(append(log, 2_000, per_append=50))
            await until_stream_at(own_bus, await last_sequence(own_bus) + 200)
            await (own_nats.stop() if end == "stop" else own_nats.kill())
            await writing
            await own_nats.start()
        await until_stream_at(own_bus, 6_000)
    # The server acknowledges before fsync, but a process that is killed loses nothing of the page cache.
    await assert_mirrors(own_bus, log)


async def test_the_stream_is_wiped_while_the_relay_works(log: EventLog, leases: Leases, bus: Bus) -> None:
    async with relaying(make(log, leases, bus, refill=500)):
        await until_stream_at(bus, await append(log, 2_000))
        await bus.js.delete_stream(bus.subjects.events_stream)
        await until_stream_at(bus, 2_000)
        await assert_mirrors(bus, log, first=1_501)
        await until_stream_at(bus, await append(log, 10))
    await assert_mirrors(bus, log, first=1_501)


async def test_the_stream_is_wiped_and_made_again_by_another_service(log: EventLog, leases: Leases, bus: Bus) -> None:
    async with relaying(make(log, leases, bus, refill=500)):
        await until_stream_at(bus, await append(log, 2_000))
        await bus.js.delete_stream(bus.subjects.events_stream)
        await ensure_streams(bus)
        await until_stream_at(bus, await append(log, 10))
    first = await first_of(bus)
    assert first in (1_501, 1_511)  # it was noticed before or after the ten were appended
    await assert_mirrors(bus, log, first=first)


async def first_of(bus: Bus) -> int:
    return (await bus.js.stream_info(bus.subjects.events_stream)).state.first_seq


async def test_the_stream_is_emptied(log: EventLog, leases: Leases, bus: Bus) -> None:
    """Nothing is left to compare with: it is rebuilt by the next relay rather than trusted."""
    async with relaying(make(log, leases, bus)):
        await until_stream_at(bus, await append(log, 100))
    await bus.js.purge_stream(bus.subjects.events_stream)
    async with relaying(make(log, leases, bus)):
        await eventually(lambda: is_first(bus, 1))
        await until_stream_at(bus, await append(log))
    await assert_mirrors(bus, log)


async def is_first(bus: Bus, position: int) -> bool:
    try:
        return await first_of(bus) == position
    except NatsError:
        return False


async def test_the_stream_loses_its_newest_messages(
    log: EventLog, leases: Leases, own_nats: EmbeddedNats, own_bus: Bus
) -> None:
    """A server that lost power comes back with less than it acknowledged."""
    store = own_nats.folder / "jetstream"
    async with relaying(make(log, leases, own_bus)):
        await until_stream_at(own_bus, await append(log, 500))
        await own_nats.stop()
        await asyncio.to_thread(shutil.copytree, store, store.with_name("older"))
        await own_nats.start()
        await until_stream_at(own_bus, await append(log, 500))
        await own_nats.kill()
        await asyncio.to_thread(replace_folder, store, store.with_name("older"))
        await own_nats.start()
        await until_stream_at(own_bus, 1_000)
    await assert_mirrors(own_bus, log)


def replace_folder(folder: Path, by: Path) -> None:
    shutil.rmtree(folder)
    by.rename(folder)


async def test_a_stream_of_another_history_is_never_resumed(log: EventLog, leases: Leases, bus: Bus) -> None:
    async with relaying(make(log, leases, bus)):
        await until_stream_at(bus, await append(log, 300, payload="old"))
    await restore_log(log, 200)
    await append(log, 150, payload="new")
    async with relaying(make(log, leases, bus)):
        await until_stream_at(bus, 350)
    await assert_mirrors(bus, log)


async def test_a_restore_under_a_working_relay_is_noticed(log: EventLog, leases: Leases, bus: Bus) -> None:
    async with relaying(make(log, leases, bus)):
        await until_stream_at(bus, await append(log, 300, payload="old"))
        await restore_log(log, 200)
        await append(log, 150, payload="new")
        await until_stream_at(bus, 350)
        await eventually(lambda: is_first(bus, 1))
    await assert_mirrors(bus, log)


async def test_a_restore_to_an_idle_shorter_log_is_noticed(log: EventLog, leases: Leases, bus: Bus) -> None:
    async with relaying(make(log, leases, bus)):
        await until_stream_at(bus, await append(log, 300))
        await restore_log(log, 200)
        await eventually(lambda: is_at(bus, 200))
    await assert_mirrors(bus, log)


async def is_at(bus: Bus, position: int) -> bool:
    return await last_sequence(bus) == position


async def test_a_foreign_message_in_the_stream_is_noticed(log: EventLog, leases: Leases, bus: Bus) -> None:
    async with relaying(make(log, leases, bus)):
        await until_stream_at(bus, await append(log, 50))
        await bus.js.publish(bus.subjects.events("instance", "i", "Forged"), b"forged")
        await eventually(lambda: is_at(bus, 50))
        await until_stream_at(bus, await append(log, 50))
    await assert_mirrors(bus, log)


async def test_the_window_forgets_old_events_and_the_relay_goes_on(log: EventLog, leases: Leases, bus: Bus) -> None:
    small = StreamSettings(events_max_bytes=40_000)
    await bus.js.update_stream(events_config(bus.subjects, small))
    async with relaying(make(log, leases, bus)):
        await until_stream_at(bus, await append(log, 1_000))
        first = await first_of(bus)
        assert first > 500
    await assert_mirrors(bus, log, first=first)


async def test_a_stream_that_is_far_behind_begins_anew_near_the_head(log: EventLog, leases: Leases, bus: Bus) -> None:
    await append(log, 3_000, per_append=1000)
    async with relaying(make(log, leases, bus, refill=100)):
        await until_stream_at(bus, 3_000)
    await assert_mirrors(bus, log, first=2_901)


async def test_an_event_that_is_too_large_for_a_message_holds_its_place(
    log: EventLog, leases: Leases, bus: Bus
) -> None:
    """Readers find a stand-in, which they take for a gap; the relay trusts the stream all the same."""
    await log.append(Append((new_event("small"),)))
    await log.append(Append((new_event("x" * MAX_EVENT_BYTES),)))
    async with relaying(make(log, leases, bus)):
        await until_stream_at(bus, 2)
    before = (await bus.js.stream_info(bus.subjects.events_stream)).created
    async with relaying(make(log, leases, bus)):
        await log.append(Append((new_event("small"),)))
        await until_stream_at(bus, 3)
    assert (await bus.js.stream_info(bus.subjects.events_stream)).created == before
    stand_in = await bus.js.get_msg(bus.subjects.events_stream, seq=2)
    assert not stand_in.data
    with pytest.raises(Poison):
        recorded_event_from_message(stand_in)
    async with EventTail(bus, log) as tail:
        assert [len(event.data) for event in await tail.next()] == [5, MAX_EVENT_BYTES, 5]


async def test_large_events_are_sent_a_window_at_a_time(log: EventLog, leases: Leases, bus: Bus) -> None:
    for _ in range(10):
        await append(log, 6, payload="y" * 900_000, per_append=6)
    async with relaying(make(log, leases, bus)):
        await until_stream_at(bus, 60)
    await assert_mirrors(bus, log)
