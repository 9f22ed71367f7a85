"""Leases: one holder, takeover after expiry, and a fencing number that stops who comes too late."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from datetime import timedelta

import asyncpg
import pytest

from core.eventlog import EventLog, Lease, LeaseLost, Leases
from core.eventlog.connections import is_transient
from tests.harness.promptness import bound_s, lateness
from tests.integration.eventlog.conftest import OpenLog

LONG = timedelta(minutes=1)
SHORT = timedelta(seconds=1)
# Of a lease that is to be kept: a busy machine may rest for several seconds between two renewals.
KEPT = timedelta(seconds=9)
PATIENCE_S = 60.0
# Shorter than what Postgres lets anybody wait for a lock.
UNHINDERED_S = 4.5


@pytest.fixture
def leases(log: EventLog) -> Leases:
    return Leases(log.pool, log.schema)


async def run_out(log: EventLog, name: str = "relay") -> None:
    """As if the lease's time had passed."""
    await log.pool.execute(f'UPDATE "{log.schema}".leases SET expires_at = clock_timestamp() WHERE name = $1', name)


async def time_passes(log: EventLog, time: timedelta) -> None:
    """For the lease, without anybody's waiting for it."""
    await log.pool.execute(f'UPDATE "{log.schema}".leases SET expires_at = expires_at - $1::interval', time)


async def acquired(leases: Leases, holder: str, ttl: timedelta = LONG) -> Lease:
    lease = await leases.acquire("relay", holder, ttl)
    assert lease is not None
    return lease


async def test_one_holder_at_a_time(leases: Leases) -> None:
    attempts = await asyncio.gather(*(leases.acquire("relay", f"replica-{n}", LONG) for n in range(8)))
    [lease] = [attempt for attempt in attempts if attempt is not None]
    assert lease.fencing == 1
    assert await leases.acquire("relay", lease.holder, LONG) is None
    assert await leases.acquire("detector", "replica-9", LONG) is not None


async def test_takeover_after_it_ran_out(log: EventLog, leases: Leases) -> None:
    first = await acquired(leases, "a")
    await run_out(log)
    assert not await leases.renew(first)
    second = await acquired(leases, "b")
    assert second.fencing == first.fencing + 1
    assert not await leases.renew(first)
    assert await leases.renew(second)


async def test_it_runs_out_by_itself_unless_renewed(log: EventLog, leases: Leases) -> None:
    lease = await acquired(leases, "a", LONG)
    for _ in range(4):
        await time_passes(log, LONG / 2)
        assert await leases.renew(lease)
        assert await leases.acquire("relay", "b", LONG) is None
    await time_passes(log, LONG)
    assert await leases.acquire("relay", "b", LONG) is not None


async def test_a_released_lease_is_free_and_its_number_is_spent(leases: Leases) -> None:
    first = await acquired(leases, "a")
    await leases.release(first)
    assert not await leases.renew(first)
    second = await acquired(leases, "a")
    assert second.fencing == first.fencing + 1
    await leases.release(first)
    assert await leases.renew(second)


async def test_a_late_write_is_refused(log: EventLog, leases: Leases) -> None:
    old = await acquired(leases, "a")
    await log.pool.execute(f'CREATE TABLE "{log.schema}".work (holder text)')

    async def write(lease: Lease) -> None:
        async with log.pool.acquire() as connection, connection.transaction():
            await connection.execute(f'INSERT INTO "{log.schema}".work VALUES ($1)', lease.holder)
            await leases.check(connection, lease)

    await write(old)
    await run_out(log)
    await write(old)  # nobody has taken over yet, so nobody can be harmed
    new = await acquired(leases, "b")
    with pytest.raises(LeaseLost) as lost:
        await write(old)
    assert (lost.value.holder, lost.value.fencing) == ("a", 1)
    await write(new)
    await leases.release(new)
    with pytest.raises(LeaseLost):
        await write(new)
    rows = await log.pool.fetch(f'SELECT holder FROM "{log.schema}".work')
    assert [row["holder"] for row in rows] == ["a", "a", "b"]


async def test_the_same_holder_s_earlier_holding_is_refused_too(log: EventLog, leases: Leases) -> None:
    """A paused task and the one that replaced it may bear the same name: the number tells them apart."""
    old = await acquired(leases, "a")
    await run_out(log)
    new = await acquired(leases, "a")
    async with log.pool.acquire() as connection, connection.transaction():
        await leases.check(connection, new)
        with pytest.raises(LeaseLost):
            await leases.check(connection, old)
    assert not await leases.renew(old)
    assert await leases.renew(new)


async def test_a_checked_write_stops_a_takeover_but_not_a_renewal(log: EventLog, leases: Leases) -> None:
    lease = await acquired(leases, "a")
    async with log.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await leases.check(connection, lease)
        assert await leases.renew(lease), "Postgres lets nobody wait for a lock for long: that would be an error"
        await run_out(log)
        takeover = asyncio.create_task(leases.acquire("relay", "b", LONG))
        done, _ = await asyncio.wait((takeover,), timeout=0.3)
        assert not done
        await transaction.commit()
        taken = await takeover
    assert taken is not None and taken.fencing == 2


async def test_who_goes_silent_within_a_statement_keeps_nobody_out_for_ever(log: EventLog, leases: Leases) -> None:
    """Between its parse and its bind, as a client that is stopped, or cut off, may: Postgres takes it to be at work."""
    lease = await acquired(leases, "a")
    async with log.pool.acquire() as connection:
        silent = connection.transaction()
        await silent.start()
        await leases.check(connection, lease)
        await connection.prepare("SELECT 'and no more'")
        await run_out(log)
        async with asyncio.timeout(PATIENCE_S), leases.hold("relay", "b", SHORT) as held:
            assert held.lease.fencing == lease.fencing + 1
        with pytest.raises(Exception) as refused:  # which one, depends on how much of Postgres's farewell was read
            await silent.commit()
        assert is_transient(refused.value), repr(refused.value)
        with suppress(asyncpg.InterfaceError):  # when the end was read, the pool has let go of it already
            connection.terminate()


async def test_held_while_the_body_runs_and_released_after_it(log: EventLog, leases: Leases) -> None:
    expires_at = f'SELECT expires_at FROM "{log.schema}".leases'
    async with leases.hold("relay", "a", KEPT) as held:
        first = await log.pool.fetchval(expires_at)
        async with asyncio.timeout(PATIENCE_S):
            while await log.pool.fetchval(expires_at) == first:  # noqa: ASYNC110 - Postgres knows, nobody tells
                await asyncio.sleep(0.05)
        assert not held.lost.is_set()
        assert await leases.acquire("relay", "b", LONG) is None
    assert held.lost.is_set()
    assert await leases.acquire("relay", "b", LONG) is not None


async def test_holding_waits_for_the_holder_before(leases: Leases) -> None:
    first = await acquired(leases, "a")
    entered = asyncio.Event()

    async def hold() -> int:
        async with leases.hold("relay", "b", SHORT) as held:
            entered.set()
            return held.lease.fencing

    holding = asyncio.create_task(hold())
    await asyncio.sleep(0.3)
    assert not entered.is_set()
    await leases.release(first)
    async with asyncio.timeout(PATIENCE_S):
        assert await holding == 2


async def test_losing_it_is_told_and_ends_the_work(log: EventLog, leases: Leases) -> None:
    async with leases.hold("relay", "a", SHORT) as held:
        work = asyncio.create_task(held.run(asyncio.sleep(60)))
        await run_out(log)
        thief = await acquired(leases, "b")
        with pytest.raises(LeaseLost):
            async with asyncio.timeout(PATIENCE_S):
                await work
        assert held.lost.is_set()
    assert await leases.renew(thief), "the end of the lost holding must not release the new one"


async def test_the_result_and_the_failure_of_the_work_come_out(leases: Leases) -> None:
    async def fail() -> None:
        raise ValueError("of the work")

    async with leases.hold("relay", "a", LONG) as held:
        assert await held.run(asyncio.sleep(0, "result")) == "result"
        with pytest.raises(ValueError, match="of the work"):
            await held.run(fail())


async def test_cut_off_from_postgres_it_is_lost_in_time(log: EventLog, postgres_dsn: str) -> None:
    """The holder can't ask, so it must assume the worst once its ttl has passed on its own clock."""
    began = time.monotonic()
    async with (
        # Here nobody but the holder itself ends a wait.
        asyncpg.create_pool(postgres_dsn, min_size=1, max_size=1, server_settings={"lock_timeout": "0"}) as pool,
        log.pool.acquire() as connection,
        Leases(pool, log.schema).hold("relay", "a", SHORT) as held,
        connection.transaction(),
    ):
        await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        await connection.execute(f'LOCK TABLE "{log.schema}".leases')
        locked_at = time.monotonic()
        async with asyncio.timeout(PATIENCE_S), lateness(lambda: [os.getpid()]) as machine:
            await held.lost.wait()
        took_s, work_s = time.monotonic() - locked_at, locked_at - began
        assert took_s < bound_s(UNHINDERED_S, work_s=work_s, waited_s=machine.total_s)


async def test_any_schema_can_have_leases(open_log: OpenLog, cell_name: str) -> None:
    log = await open_log()
    other = f"{cell_name}_other"
    try:
        replicas = [Leases(log.pool, other) for _ in range(3)]
        await asyncio.gather(*(leases.prepare() for leases in replicas))
        await acquired(replicas[0], "a")
        assert await replicas[1].acquire("relay", "b", LONG) is None
    finally:
        await log.pool.execute(f'DROP SCHEMA "{other}" CASCADE')


async def test_of_many_that_are_the_first_ever_one_gets_it_and_none_an_error(leases: Leases) -> None:
    for number in range(30):
        acquired = await asyncio.gather(*(leases.acquire(f"new-{number}", f"holder-{each}", LONG) for each in range(8)))
        assert sum(lease is not None for lease in acquired) == 1
