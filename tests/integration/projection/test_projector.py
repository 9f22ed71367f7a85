"""The projector: rows and checkpoint together, one active replica, poison halts, rebuild equals live."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from core.bus import Bus
from core.bus.streams import StreamSettings, events_config
from core.embedded.nats import EmbeddedNats
from core.eventlog import EventLog, Leases
from core.projection import Progress, ProjectionHalted
from core.relay import Relay
from core.testing.servers import Cell
from tests.integration.bus.journal import append, restore_log, until_stream_at

from .conftest import MakeProjector, running
from .listing import Listing, Weak, assert_equals_log, rows

# Of leases that are to be kept: longer than any stall of a busy machine.
KEPT = timedelta(minutes=1)


@pytest.fixture
def schema(cell: Cell) -> str:
    return f"{cell.name}_reads"


async def test_rows_follow_the_log(log: EventLog, relay: Relay, make_projector: MakeProjector, schema: str) -> None:
    projector = make_projector()
    async with running(projector):
        await asyncio.gather(*(append(log, 100, per_append=1 + writer % 3) for writer in range(5)))
        assert await projector.wait_for(500, timeout=60)
        assert projector.position() == 500
    await assert_equals_log(log, schema)
    state = await projector.state()
    assert state is not None
    assert (state.position, state.epoch, state.halted_at) == (500, 1, None)
    assert state.event_id == (await log.read(after=499))[0].event_id


async def test_a_postgres_that_does_little_in_its_time_is_given_less(
    log: EventLog, relay: Relay, make_projector: MakeProjector, schema: str
) -> None:
    """As when it ends a transaction that takes too long: the same batch, tried again and again, would never pass."""
    await append(log, 3_000, per_append=1_000)
    projector = make_projector(weak := Weak(at_most=10, up_to=300), batch=128)
    async with running(projector):
        assert await projector.wait_for(3_000, timeout=60)
    assert weak.largest >= 128, "it is given more again where that passes"
    await assert_equals_log(log, schema)


async def test_an_event_is_visible_at_once(log: EventLog, relay: Relay, make_projector: MakeProjector) -> None:
    """The stream tells of it: the projector looks at the log so seldom that this can't be what it goes by."""
    projector = make_projector(stall_s=3600.0)
    async with running(projector):
        for _ in range(20):
            assert await projector.wait_for(await append(log), timeout=60)


async def test_what_was_there_before_is_read_from_the_log(
    log: EventLog, bus: Bus, relay: Relay, make_projector: MakeProjector, schema: str
) -> None:
    """The stream's window has left most of it behind."""
    await bus.js.update_stream(events_config(bus.subjects, StreamSettings(events_max_bytes=40_000)))
    await until_stream_at(bus, await append(log, 3_000, per_append=1000))
    assert (await bus.js.stream_info(bus.subjects.events_stream)).state.first_seq > 2_000
    projector = make_projector()
    async with running(projector):
        assert await projector.wait_for(3_000, timeout=60)
        assert await projector.wait_for(await append(log, 10), timeout=60)
    await assert_equals_log(log, schema)


async def test_of_two_projectors_one_is_active_and_both_can_wait(
    log: EventLog, relay: Relay, make_projector: MakeProjector, schema: str
) -> None:
    one, two = Listing(), Listing()
    first, second = make_projector(one, "p1", lease_ttl=KEPT), make_projector(two, "p2", lease_ttl=KEPT)
    async with running(first):
        assert await first.wait_for(await append(log, 10), timeout=60)
        async with running(second):
            for _ in range(20):
                position = await append(log, 5)
                assert all(await asyncio.gather(first.wait_for(position, 60), second.wait_for(position, 60)))
            assert (len(one.applied), two.applied) == (110, [])
    async with running(second):
        assert await second.wait_for(await append(log, 10), timeout=60)
    assert two.applied == list(range(111, 121))
    await assert_equals_log(log, schema)


async def test_a_projector_that_lost_its_lease_unawares_changes_nothing(
    log: EventLog, leases: Leases, relay: Relay, make_projector: MakeProjector, schema: str
) -> None:
    """It is in the middle of an event while another holds the lease already, as after a pause."""
    paused, active = Listing(), Listing()
    first = make_projector(paused, "p1", lease_ttl=timedelta(hours=1))
    second = make_projector(active, "p2")
    async with running(first):
        assert await first.wait_for(await append(log), timeout=60)
        slow = await append(log, payload="slow")
        async with asyncio.timeout(60):
            await paused.reached_slow.wait()
        await log.pool.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE state = 'idle in transaction' AND query LIKE '%INSERT INTO listed%'"
        )
        await log.pool.execute(f"UPDATE \"{log.schema}\".leases SET expires_at = now() WHERE name LIKE 'proj%'")
        active.gate.set()
        async with running(second):
            assert await second.wait_for(await append(log), timeout=60)
            paused.gate.set()
            assert await second.wait_for(await append(log, 20), timeout=60)
    assert paused.applied == [1]
    assert active.applied == list(range(slow, slow + 22))
    await assert_equals_log(log, schema)


async def test_the_checkpoint_is_never_ahead_of_the_rows(
    log: EventLog, relay: Relay, make_projector: MakeProjector, schema: str
) -> None:
    """Also while projectors are killed in the middle: whoever looks sees both of one transaction."""
    await make_projector().prepare()
    looks = 0

    async def look() -> None:
        nonlocal looks
        query = (
            f'SELECT p.position, (SELECT count(*) FROM "{schema}".listed), t.events'
            f' FROM "{schema}".projections p, "{schema}".total t'
        )
        while True:
            row = await log.pool.fetchrow(query)
            assert row is not None
            assert row[0] == row[1] == row[2]
            looks += 1
            await asyncio.sleep(0)

    looking = asyncio.create_task(look())
    writing = asyncio.create_task(append(log, 4_000, per_append=20))
    for number in range(6):
        projector = make_projector(holder=f"p{number}", batch=50)
        async with running(projector):
            assert await projector.wait_for((number + 1) * 500, timeout=60)
    await writing
    async with running(projector := make_projector(holder="last")):
        assert await projector.wait_for(4_000, timeout=60)
    assert not looking.done(), looking
    looking.cancel()
    assert looks > 50
    await assert_equals_log(log, schema)


async def test_a_rebuild_equals_what_was_there(
    log: EventLog, relay: Relay, make_projector: MakeProjector, schema: str
) -> None:
    projector = make_projector()
    reports: list[Progress] = []
    async with running(projector):
        assert await projector.wait_for(await append(log, 3_000, per_append=1000), timeout=60)
        live = await rows(log, schema)
        async with asyncio.timeout(60):
            done = await projector.rebuild(reports.append)
        assert await rows(log, schema) == live
        assert await projector.wait_for(await append(log, 10), timeout=60)
    assert (done.position, done.target, reports[-1]) == (3_000, 3_000, done)
    assert done.events_per_s > 0
    await assert_equals_log(log, schema)


async def test_a_rebuild_by_a_tool_while_another_replica_runs(
    log: EventLog, relay: Relay, make_projector: MakeProjector, schema: str
) -> None:
    service, tool = Listing(), Listing()
    # A replica that has lost its lease would be right to leave it to the tool.
    async with running(live := make_projector(service, "service", lease_ttl=KEPT)):
        assert await live.wait_for(await append(log, 500), timeout=60)
        async with asyncio.timeout(60):
            await make_projector(tool, "tool").rebuild()
        assert (len(service.applied), tool.applied) == (1_000, [])
        await assert_equals_log(log, schema)


async def test_a_rebuild_by_a_tool_while_nobody_runs(log: EventLog, make_projector: MakeProjector, schema: str) -> None:
    """Neither relay nor projectors run: the log is enough."""
    await append(log, 500)
    async with asyncio.timeout(60):
        done = await make_projector().rebuild()
    assert done.position == 500
    await assert_equals_log(log, schema)


async def test_a_new_version_is_built_from_zero(
    log: EventLog, relay: Relay, make_projector: MakeProjector, schema: str
) -> None:
    async with running(old := make_projector(Listing(version=1))):
        assert await old.wait_for(await append(log, 100), timeout=60)
    async with running(new := make_projector(Listing(version=2, mark="v2 "))):
        position = await append(log, 1)
        async with asyncio.timeout(60):
            while (state := await new.state()) is None or (state.version, state.position) != (2, position):
                await new.wait_for(position + 1, timeout=0.05)
    await assert_equals_log(log, schema, mark="v2 ")


async def test_an_old_version_leaves_the_new_ones_rows_alone(
    log: EventLog, relay: Relay, make_projector: MakeProjector, schema: str
) -> None:
    async with running(new := make_projector(Listing(version=2), "new")):
        assert await new.wait_for(await append(log, 10), timeout=60)
    old = Listing(version=1)
    async with running(projector := make_projector(old, "old")):
        assert not await projector.wait_for(await append(log, 10), timeout=1.5)
    assert old.applied == []
    assert len(await rows(log, schema)) == 10


async def test_poison_halts_visibly_and_reads_say_so(
    log: EventLog, relay: Relay, make_projector: MakeProjector, schema: str
) -> None:
    await append(log, 50)
    poison = await append(log, payload="poison")
    last = await append(log, 50)
    replica = make_projector(Listing(), "p2")
    async with running(projector := make_projector(Listing(), "p1"), replica):
        for each in (projector, replica):
            with pytest.raises(ProjectionHalted) as caught:
                await each.wait_for(last, timeout=60)
            assert (caught.value.position, caught.value.checkpoint) == (poison, poison - 1)
            assert "no such field" in caught.value.message
            assert await each.wait_for(poison - 1, timeout=60)
        state = await projector.state()
        assert state is not None
        assert (state.position, state.halted_at) == (poison - 1, poison)
        assert "ValueError" in state.error
        assert [position for position, _ in await rows(log, schema)] == list(range(1, poison))


async def test_waiters_hear_of_a_halt(log: EventLog, relay: Relay, make_projector: MakeProjector) -> None:
    async with running(projector := make_projector()):
        assert await projector.wait_for(await append(log), timeout=60)
        waiting = asyncio.create_task(projector.wait_for(3, timeout=60))
        await append(log, payload="poison")
        with pytest.raises(ProjectionHalted):
            async with asyncio.timeout(60):
                await waiting


async def test_a_restart_with_mended_code_goes_on(
    log: EventLog, relay: Relay, make_projector: MakeProjector, schema: str
) -> None:
    poison = await append(log, payload="poison")
    async with running(broken := make_projector(Listing(), "p1")):
        with pytest.raises(ProjectionHalted):
            await broken.wait_for(poison, timeout=60)
    last = await append(log, 10)
    async with running(mended := make_projector(Listing(fragile=False), "p2")):
        async with asyncio.timeout(60):
            while mended.position() < last:
                await until_position_or_halt(mended, last)
    await assert_equals_log(log, schema)
    state = await mended.state()
    assert state is not None
    assert (state.halted_at, state.error) == (None, "")


async def until_position_or_halt(projector: object, position: int) -> None:
    """Before the new holder has tried the event again, the old halt still stands."""
    try:
        await projector.wait_for(position, timeout=1)  # type: ignore[attr-defined]
    except ProjectionHalted:
        await asyncio.sleep(0.02)


async def test_a_halt_is_taken_back_by_a_person(
    log: EventLog, relay: Relay, make_projector: MakeProjector, schema: str
) -> None:
    listing = Listing()
    poison = await append(log, payload="poison")
    async with running(projector := make_projector(listing)):
        with pytest.raises(ProjectionHalted):
            await projector.wait_for(poison, timeout=60)
        listing.fragile = False
        await projector.resume()
        assert await projector.wait_for(poison, timeout=60)
    await assert_equals_log(log, schema)


async def test_a_restored_log_makes_the_read_model_anew(
    log: EventLog, relay: Relay, bus: Bus, make_projector: MakeProjector, schema: str
) -> None:
    async with running(projector := make_projector()):
        assert await projector.wait_for(await append(log, 300, payload="old"), timeout=60)
        await restore_log(log, 200)
        await append(log, 150, payload="new")
        await until_equal(log, schema, 350)
    await assert_equals_log(log, schema)


async def test_a_log_restored_while_nobody_ran_is_noticed(
    log: EventLog, relay: Relay, make_projector: MakeProjector, schema: str
) -> None:
    async with running(projector := make_projector()):
        assert await projector.wait_for(await append(log, 300, payload="old"), timeout=60)
    await restore_log(log, 200)
    async with running(make_projector(holder="p2")):
        await until_equal(log, schema, 200)
    await assert_equals_log(log, schema)


async def test_a_rebuild_ends_though_the_log_is_restored_meanwhile(
    log: EventLog, relay: Relay, leases: Leases, make_projector: MakeProjector, schema: str
) -> None:
    """It was to go on to an event that there is no more."""
    projector, lease = make_projector(), f"projection:{schema}:{Listing.name}"
    reports: list[Progress] = []
    async with asyncio.timeout(60), running(projector):
        assert await projector.wait_for(await append(log, 300, payload="old"), timeout=60)
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        async with leases.hold(lease, "somebody who does nothing", timedelta(seconds=20)):
            rebuilding = tasks.create_task(make_projector(holder="tool").rebuild(reports.append))
            while not reports:  # noqa: ASYNC110 - it was told of, not waited for
                await asyncio.sleep(0.01)
            assert reports[-1].target == 300
            await restore_log(log, 200)
        assert (await rebuilding).position == 200
    await assert_equals_log(log, schema)


async def until_equal(log: EventLog, schema: str, count: int) -> None:
    """Until the rows are the log's events; their number alone says little after a restore."""
    wanted = [event.event_id for event in await log.read(after=0)]
    assert len(wanted) == count
    async with asyncio.timeout(60):
        while True:
            found = await log.pool.fetch(f'SELECT event_id FROM "{schema}".listed ORDER BY position')
            if [row["event_id"] for row in found] == wanted:
                return
            await asyncio.sleep(0.05)


async def test_the_database_connection_breaks_in_the_middle(
    log: EventLog, relay: Relay, make_projector: MakeProjector, schema: str
) -> None:
    """An event is not to blame for that: nothing halts."""
    async with running(projector := make_projector()):
        for _ in range(5):
            position = await append(log, 200)
            await log.pool.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%listed%'"
            )
            assert await projector.wait_for(position, timeout=60)
    await assert_equals_log(log, schema)


async def test_nats_restarts_and_is_away(
    log: EventLog,
    leases: Leases,
    own_nats: EmbeddedNats,
    own_bus: Bus,
    make_projector: MakeProjector,
    schema: str,
) -> None:
    relay = Relay(log, leases, own_bus, holder="r1", ack_timeout_s=0.5, idle_check_s=0.2)
    async with running(relay, projector := make_projector(bus=own_bus)):
        assert await projector.wait_for(await append(log, 100), timeout=60)
        for _ in range(3):
            await own_nats.restart()
            assert await projector.wait_for(await append(log, 100), timeout=60)
        await own_nats.stop()
        # Reads go on without NATS: the log is what the stream is made of.
        assert await projector.wait_for(await append(log, 100), timeout=60)
        await own_nats.start()
        await until_stream_at(own_bus, 500)
        assert await projector.wait_for(await append(log, 100), timeout=60)
    await assert_equals_log(log, schema)


async def test_rows_of_a_lost_history_are_not_what_is_waited_for(
    log: EventLog, relay: Relay, leases: Leases, make_projector: MakeProjector, schema: str
) -> None:
    """They hold as many events, also in the eyes of a replica that has heard of no restore."""
    async with running(active := make_projector(), other := make_projector(holder="p2")):
        lost = await append(log, 300, payload="lost")
        for projector in (active, other):
            assert await projector.wait_for(lost, timeout=60, epoch=1)
    async with leases.hold(f"projection:{schema}:{Listing.name}", "nobody", timedelta(seconds=20)):
        await restore_log(log, 200)
        last = await append(log, 1, payload="new")
        async with running(unaware := make_projector(holder="p3")):
            for projector in (active, other, unaware):
                assert await projector.wait_for(last, timeout=60)
                assert not await projector.wait_for(last, timeout=0.1, epoch=2)
    async with running(make_projector(holder="p4")):
        for projector in (active, other, unaware):
            assert await projector.wait_for(last, timeout=60, epoch=2)
        await assert_equals_log(log, schema)
