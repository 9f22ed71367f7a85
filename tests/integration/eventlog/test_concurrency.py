"""Many writers and a reader at their heels; writers that are stopped at any moment."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from random import Random

import pytest

from core.eventlog import CounterAdd, CounterLimit, EventLog, LimitExceeded, UniqueClaim, UniqueViolation
from core.eventlog.types import RecordedEvent
from core.ids import uuid7
from core.testing.faults.processes import paused
from tests.integration.eventlog.conftest import OpenLog
from tests.integration.eventlog.events import new_append, read_all
from tests.integration.roles.process import playing

WRITERS = 16
APPENDS = 25
# Postgres's lock_timeout, and half of what anybody may be stalled for (DESIGN §2).
STALL_S = 5.0


async def _tail(log: EventLog, stop: asyncio.Event) -> list[RecordedEvent]:
    """What a reader sees that follows the log as it grows."""
    seen: list[RecordedEvent] = []
    after = 0
    while True:
        finished = stop.is_set()
        page = await log.read(after=after, limit=50)
        seen += page
        after = page[-1].position if page else after
        if not page:
            if finished:
                return seen
            await log.wait_beyond(after, timeout=0.1)


@pytest.mark.parametrize("run", range(20))
async def test_a_tailing_reader_misses_nothing_of_sixteen_writers(open_log: OpenLog, run: int) -> None:
    reader, *replicas = await asyncio.gather(*(open_log(pool_size=2) for _ in range(3)))
    random = Random(run)
    await reader.append(new_append(CounterLimit("cores", "p", WRITERS * APPENDS // 4)))

    async def write(number: int) -> int:
        log, events = replicas[number % len(replicas)], 0
        for _ in range(APPENDS):
            count = random.randint(1, 3)
            claim = UniqueClaim("name", str(random.randrange(100)), str(uuid7()))
            constraint = random.choice([claim, CounterAdd("cores", "p", 1), None])
            try:
                await log.append(new_append(*([constraint] if constraint else []), events=count))
            except (UniqueViolation, LimitExceeded):
                continue
            events += count
        return events

    stop = asyncio.Event()
    tail = asyncio.create_task(_tail(reader, stop))
    written = sum(await asyncio.gather(*(write(number) for number in range(WRITERS))))
    stop.set()
    seen = await tail
    assert [event.position for event in seen] == list(range(1, written + 2))
    assert [(event.position, event.event_id) for event in seen] == await read_all(reader)
    assert all(one.recorded_at <= next_.recorded_at for one, next_ in pairwise(seen))


async def _append(log: EventLog) -> float:
    """How long it took, in seconds."""
    began = time.monotonic()
    await log.append(new_append())
    return time.monotonic() - began


async def test_a_stopped_writer_stalls_nobody(open_log: OpenLog, postgres_dsn: str, cell_name: str) -> None:
    """SIGSTOP of a process that appends all the time, at thirty moments; awake again, it has broken nothing.

    The work itself is granted thrice what it has taken while the other appended as well.
    """
    log = await open_log()
    random = Random(1)
    async with playing("busy writer", dsn=postgres_dsn, cell=cell_name, holder="stopped") as process:
        for _ in range(30):
            await asyncio.sleep(random.uniform(0.01, 0.05))
            work_s = await _append(log)
            with paused(process.pid):
                assert await _append(log) < STALL_S + 3 * work_s
    positions = [position for position, _ in await read_all(log)]
    assert positions == list(range(1, len(positions) + 1))
    assert len(positions) > 100


async def test_a_client_that_holds_the_head_in_a_transaction_is_thrown_out(log: EventLog) -> None:
    """Nothing of ours does that; whoever does through the pool stalls the others for ten seconds at most."""
    gone = asyncio.Event()
    async with log.pool.acquire() as connection:
        connection.add_termination_listener(lambda _: gone.set())
        await connection.execute("BEGIN")
        await connection.execute(f'SELECT FROM "{log.schema}".head FOR UPDATE')
        started = time.monotonic()
        await log.append(new_append())
        assert 1 < time.monotonic() - started < 30
        # The append may be faster than the word of it: what is being closed can't be given back to the pool.
        async with asyncio.timeout(30):
            await gone.wait()
