"""Lost answers, killed connections, a Postgres that is away: every append counts once."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from core.embedded.postgres import EmbeddedPostgres
from core.eventlog import Appended, CounterAdd, EventLog, LogUnavailable, VersionConflict
from core.ids import uuid7
from tests.integration.eventlog.append_harm import AppendHarm, Harm
from tests.integration.eventlog.conftest import OpenLog
from tests.integration.eventlog.events import append_together, new_append, read_all


@pytest.mark.parametrize("harm", [Harm.CUT_BEFORE_REQUEST, Harm.CUT_BEFORE_ANSWER])
async def test_a_batch_whose_answer_is_lost_counts_once(
    postgres_server: EmbeddedPostgres, open_log: OpenLog, harm: Harm
) -> None:
    plan = AppendHarm()
    async with plan.link(postgres_server.port) as link:
        log = await open_log(link.url(postgres_server.dsn))
        aggregate_id = uuid7()
        await log.append(new_append(CounterAdd("cores", "p", 1), aggregate_id=aggregate_id))
        plan.harm = harm
        fits = [new_append(CounterAdd("cores", "p", 1), events=2) for _ in range(5)]
        conflict = new_append(CounterAdd("cores", "p", 1), aggregate_id=aggregate_id)
        *outcomes, refused = await append_together(log, [*fits, conflict])
        assert plan.harmed.is_set()
        assert isinstance(refused, VersionConflict)
        expected = [(n, event.event_id) for n, event in enumerate((e for a in fits for e in a.events), 2)]
        assert await read_all(log, after=1) == expected
        stored = {event.position: event for event in await log.read(after=1)}
        for append, outcome in zip(fits, outcomes, strict=True):
            assert isinstance(outcome, Appended)
            assert stored[outcome.first_position].event_id == append.events[0].event_id
            assert stored[outcome.last_position].recorded_at == outcome.recorded_at
        assert (await log.counter("cores", "p")).used == 6


async def test_a_client_that_stops_before_the_end_of_its_request_holds_no_lock(
    postgres_server: EmbeddedPostgres, open_log: OpenLog
) -> None:
    """The commit is the server's own: it doesn't wait for the message that ends the request."""
    plan = AppendHarm()
    async with plan.link(postgres_server.port) as link:
        stopped, other = await open_log(link.url(postgres_server.dsn)), await open_log()
        await stopped.append(new_append())
        plan.harm = Harm.WITHHOLD_SYNC
        unanswered = asyncio.create_task(stopped.append(new_append()))
        await plan.harmed.wait()
        assert await other.wait_beyond(1, timeout=20)
        await other.pool.execute(f'SELECT FROM "{other.schema}".head FOR UPDATE NOWAIT')
        assert (await other.append(new_append())).last_position == 3
        assert not unanswered.done()
        unanswered.cancel()


async def test_killed_connections_lose_and_double_nothing(open_log: OpenLog) -> None:
    log, killer = await open_log(), await open_log()
    appends = [new_append(CounterAdd("cores", "p", 1), events=2) for _ in range(600)]

    async def write(share: list[int]) -> None:
        for number in share:
            await log.append(appends[number])

    async def kill() -> int:
        """Once more whenever something has been appended since: on a busy machine an append may take long."""
        killed = last = 0
        while not done.is_set():
            position = (await killer.head()).position
            if position > last:
                killed += await killer.pool.fetchval(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                    f" WHERE query LIKE '%CALL \"{log.schema}\".append_batch%' AND pid <> pg_backend_pid()"
                )
                last = position
            await asyncio.sleep(0.02)
        return killed

    done = asyncio.Event()
    killing = asyncio.create_task(kill())
    await asyncio.gather(*(write(list(range(n, len(appends), 20))) for n in range(20)))
    done.set()
    assert await killing > 0
    stored = await read_all(log)
    assert [position for position, _ in stored] == list(range(1, 1201))
    assert {event_id for _, event_id in stored} == {event.event_id for a in appends for event in a.events}
    assert (await log.counter("cores", "p")).used == 600


async def test_appends_wait_for_postgres_and_give_up_after_their_patience(tmp_path: Path) -> None:
    async with EmbeddedPostgres(tmp_path / "postgres", durable=True) as server:
        patient = await EventLog.open(server.dsn, schema="log", patience_s=60)
        hasty = await EventLog.open(server.dsn, schema="log", patience_s=0.5)
        await patient.append(new_append())
        await server.kill()
        waiting = [asyncio.create_task(patient.append(new_append())) for _ in range(5)]
        with pytest.raises(LogUnavailable) as gave_up:
            await hasty.append(new_append())
        assert gave_up.value.retryable
        assert not any(task.done() for task in waiting)
        await server.start()
        await asyncio.gather(*waiting)
        assert (await patient.head()).position == 6
        assert await _in_the_end(hasty)
        await patient.close()
        await hasty.close()


async def _in_the_end(hasty: EventLog) -> Appended:
    """What an append says that is asked for until it is made: a busy machine may not connect within its patience."""
    async with asyncio.timeout(60):
        while True:
            with suppress(LogUnavailable):
                return await hasty.append(new_append())


async def test_opening_waits_for_postgres(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "postgres")
    await server.start()
    dsn = server.dsn
    await server.stop()
    with pytest.raises(LogUnavailable):
        await EventLog.open(dsn, schema="log", patience_s=0.2)
    opening = asyncio.create_task(EventLog.open(dsn, schema="log", patience_s=60))
    await server.start()
    log = await opening
    assert (await log.append(new_append())).last_position == 1
    await log.close()
    await server.stop()


async def test_closing_finishes_what_is_queued_and_refuses_the_rest(open_log: OpenLog) -> None:
    log = await open_log()
    queued = [asyncio.create_task(log.append(new_append())) for _ in range(20)]
    await asyncio.sleep(0)
    await log.close()
    assert [outcome.last_position for outcome in await asyncio.gather(*queued)] == list(range(1, 21))
    with pytest.raises(LogUnavailable):
        await log.append(new_append())
