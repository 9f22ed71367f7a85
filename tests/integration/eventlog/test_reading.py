"""Reading by position, by aggregate, by filter, as of a time; waiting for more."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from core.eventlog import Append, Context, EventLog
from core.ids import uuid7
from tests.integration.eventlog.conftest import OpenLog
from tests.integration.eventlog.events import new_append, new_event


async def test_pages_by_position(log: EventLog) -> None:
    await log.append(new_append(events=10))
    assert [event.position for event in await log.read(after=3, limit=4)] == [4, 5, 6, 7]
    assert [event.position for event in await log.read(after=3, limit=100, up_to=5)] == [4, 5]
    assert await log.read(after=10) == []


async def test_an_aggregate_as_it_was(log: EventLog) -> None:
    aggregate_id = uuid7()
    for version in (1, 2, 3):
        await log.append(new_append(aggregate_id=aggregate_id, version=version))
        await log.append(new_append())
    assert [event.version for event in await log.read_aggregate(aggregate_id)] == [1, 2, 3]
    assert [event.version for event in await log.read_aggregate(aggregate_id, after_version=1)] == [2, 3]
    assert [event.version for event in await log.read_aggregate(aggregate_id, up_to_position=3)] == [1, 2]


async def test_the_position_at_a_moment(log: EventLog) -> None:
    times = [(await log.append(new_append(events=2))).recorded_at for _ in range(9)]
    for number, moment in enumerate(times, 1):
        assert await log.position_at(moment) == 2 * number
        assert await log.position_at(moment - timedelta(microseconds=1)) == 2 * number - 2
    assert await log.position_at(times[-1] + timedelta(days=1)) == 18
    assert await log.position_at(times[0] - timedelta(days=1)) == 0


async def test_listing_by_filters(log: EventLog) -> None:
    one, other = uuid7(), uuid7()
    first, second = Context(correlation_id="first"), Context(correlation_id="second")
    await log.append(Append((new_event(one, 1), new_event(other, 1)), context=first))
    await log.append(Append((new_event(one, 2),), context=second))
    await log.append(Append((new_event(one, 3),), context=first))
    await log.append(Append((new_event(one, 4),)))

    async def positions(**filters: object) -> list[int]:
        return [event.position for event in await log.list_events(**filters)]  # type: ignore[arg-type]

    assert await positions() == [1, 2, 3, 4, 5]
    assert await positions(aggregate_id=one) == [1, 3, 4, 5]
    assert await positions(correlation_id="first") == [1, 2, 4]
    assert await positions(correlation_id="first", aggregate_id=one, after=1) == [4]
    assert await positions(aggregate_type="thing", limit=2) == [1, 2]
    assert await positions(aggregate_type="thing", after=1, up_to=3) == [2, 3]
    assert await positions(aggregate_type="nothing") == []


async def test_waiting_ends_with_an_append_of_another_replica(open_log: OpenLog) -> None:
    # A poll this rare can't be what ends the wait.
    reader, writer = await open_log(poll_interval_s=60.0), await open_log()
    assert not await reader.wait_beyond(0, timeout=0.3)
    waiting = asyncio.create_task(reader.wait_beyond(0, timeout=30))
    await writer.append(new_append())
    async with asyncio.timeout(30):
        assert await waiting
    assert await reader.wait_beyond(0, timeout=0)


async def _listening(reader: EventLog, writer: EventLog) -> None:
    """Returns once the reader has begun to listen, and has had its first look: both know of one event."""
    await writer.append(new_append())
    assert await reader.wait_beyond(0, timeout=20)
    looked = f"""SELECT EXISTS (
        SELECT FROM pg_stat_activity WHERE state = 'idle' AND query = 'SELECT position FROM "{reader.schema}".head'
    )"""
    async with asyncio.timeout(20):
        while not await writer.pool.fetchval(looked):  # noqa: ASYNC110 - Postgres knows
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("wake", ["an append that is waited for", "a hint"])
async def test_what_nobody_waits_for_is_gathered_until_somebody_does(open_log: OpenLog, wake: str) -> None:
    # As rare as that, the poll can't be what ends the wait.
    log = await open_log(poll_interval_s=60.0)
    await _listening(log, await open_log())
    waiting = asyncio.create_task(log.wait_beyond(1, timeout=20, gather_s=60))
    await log.append(replace(new_append(), patient=True))
    assert not (await asyncio.wait((waiting,), timeout=0.3))[0]
    if wake == "a hint":
        log.hurry(2)
    else:
        await log.append(new_append())
    async with asyncio.timeout(30):
        assert await waiting


async def test_what_nobody_waits_for_is_gathered_for_a_while(open_log: OpenLog) -> None:
    log = await open_log(poll_interval_s=60.0)
    await log.append(replace(new_append(), patient=True))
    began = asyncio.get_running_loop().time()
    assert await log.wait_beyond(0, timeout=30, gather_s=0.2)
    assert asyncio.get_running_loop().time() - began >= 0.2


async def test_others_tell_whether_somebody_waits_for_what_they_append(open_log: OpenLog) -> None:
    reader, writer = await open_log(poll_interval_s=60.0), await open_log()
    await _listening(reader, writer)
    waiting = asyncio.create_task(reader.wait_beyond(1, timeout=20, gather_s=60))
    await writer.append(replace(new_append(), patient=True))
    async with asyncio.timeout(30):
        while reader.known_position < 2:  # noqa: ASYNC110 - what is waited for must not hurry
            await asyncio.sleep(0.01)
    assert not (await asyncio.wait((waiting,), timeout=0.3))[0]
    await writer.append(new_append())
    async with asyncio.timeout(30):
        assert await waiting


@pytest.mark.breaks("LOG")
async def test_the_poll_finds_what_was_not_notified(open_log: OpenLog) -> None:
    reader = await open_log(poll_interval_s=0.1)
    assert not await reader.wait_beyond(0, timeout=0.3)
    waiting = asyncio.create_task(reader.wait_beyond(0, timeout=30))
    await reader.pool.execute(f'UPDATE "{reader.schema}".head SET position = 1')
    assert await waiting


async def test_waiting_survives_the_loss_of_its_connection(open_log: OpenLog) -> None:
    reader, writer = await open_log(poll_interval_s=0.2), await open_log()
    assert not await reader.wait_beyond(0, timeout=0.2)
    await writer.pool.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND datname = current_database() AND backend_type = 'client backend'"
        f" AND query LIKE '%\"{reader.schema}\".head%'"
    )
    waiting = asyncio.create_task(reader.wait_beyond(0, timeout=30))
    await writer.append(new_append())
    assert await waiting


async def test_a_shorter_log_after_a_restore_is_noticed(open_log: OpenLog) -> None:
    log = await open_log(poll_interval_s=0.1)
    await log.append(new_append(events=5))
    assert await log.wait_beyond(4, timeout=30)
    await log.pool.execute(f'UPDATE "{log.schema}".head SET position = 3')
    async with asyncio.timeout(30):
        while await log.wait_beyond(3, timeout=0.01):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert await log.wait_beyond(2, timeout=0)


async def test_a_raised_epoch_marks_what_follows(log: EventLog) -> None:
    await log.append(new_append())
    head = await log.raise_epoch("a test", expected=1)
    assert head is not None and (head.position, head.epoch) == (2, 2)
    assert await log.raise_epoch("the same again", expected=1) is None
    assert await log.raise_epoch("an older backup still", expected=2, above=7) == await log.head()
    await log.append(new_append())
    assert [event.epoch for event in await log.read(after=0)] == [1, 2, 8, 8]
