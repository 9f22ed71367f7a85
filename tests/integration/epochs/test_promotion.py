"""A standby is promoted: with all events, nothing changes; without the last ones, a new epoch begins, once."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from cirra.operations.v1.events_pb2 import EpochRaised
from cirra.placement.v1.placement_pb2 import Inventory
from core.context import current_context
from core.eventlog import EventLog, Leases, RecordedEvent
from core.eventlog.rebuild import recompute_constraints
from core.ids import host_aggregate_id
from core.projection import EventTail, HistoryChanged, Projector
from core.repository import RecordedConstraints, Repository
from core.sealing import Keyring
from core.testing.invariants import CellUnderCheck, ReadModel, lasting_violations
from placement.hosts.host import Host
from tests.integration.bus.journal import assert_mirrors, until_stream_at
from tests.integration.epochs.conftest import PATIENCE_S, Failover, relaying, until_epoch
from tests.integration.epochs.hosts_model import HostsModel


async def enrol(repository: Repository, *numbers: int) -> int:
    """So many hosts, with an event and capacity rows each; the last position."""
    position = 0
    for number in numbers:
        name = f"host-{number}"
        host = Host.new(host_aggregate_id(name))
        host.enrol(name, "zone-1")
        host.set_inventory(Inventory(vcpus=4, memory_mib=1024, disk_gib=10))
        position = (await repository.save(host)).position
    return position


def repository_of(log: EventLog) -> Repository:
    return Repository(log, Keyring(log.pool, log.schema, bytes(32)), current_context)


async def raised(log: EventLog) -> list[tuple[RecordedEvent, EpochRaised]]:
    found = await log.list_events(aggregate_type="epoch")
    return [(event, EpochRaised.FromString(event.data)) for event in found]


@pytest.fixture
def schema(failover: Failover) -> str:
    return f"{failover.cell}_log"


async def test_a_lossy_promotion_begins_a_new_epoch_once(failover: Failover, schema: str) -> None:
    """The last 100 events and more are gone. Two relays watch; the stream, the read model and the rows follow."""
    log = await EventLog.open(failover.dsn, schema=schema)
    projector = Projector(
        HostsModel(),
        log=log,
        bus=failover.bus,
        leases=Leases(log.pool, schema),
        schema=f"{failover.cell}_model",
        holder="p",
        lease_ttl=timedelta(seconds=3),
    )
    projecting = asyncio.create_task(projector.run())
    try:
        async with relaying(log, failover.bus, "r1", "r2") as (one, _):
            repository = repository_of(log)
            kept = await enrol(repository, *range(10))
            await failover.follow()
            await failover.standby.stop()
            lost = await enrol(repository, *range(100, 150))
            assert lost - kept == 100
            await until_stream_at(failover.bus, lost)
            async with EventTail(failover.bus, log) as tail:
                while tail.position < lost:
                    await tail.next()
                await failover.promote()
                await until_epoch(log, 2)
                with pytest.raises(HistoryChanged):
                    await tail.next()
            after = await enrol(repository, *range(200, 205))
            await until_stream_at(failover.bus, after)
            await one.wait_whole()
        assert await projector.wait_for(after, PATIENCE_S)
        [(event, epoch)] = await raised(log)
        assert (event.position, event.epoch) == (kept + 1, 2)
        assert (epoch.epoch, epoch.published_position) == (2, lost)
        assert after == kept + 1 + 10, "nothing but what was appended since"
        await assert_mirrors(failover.bus, log)
        await assert_sound(log, failover)
    finally:
        projecting.cancel()
        await asyncio.gather(projecting, return_exceptions=True)
        await log.close()


async def assert_sound(log: EventLog, failover: Failover) -> None:
    model = ReadModel(f"{failover.cell}_model", HostsModel())
    cell = CellUnderCheck(log=log, bus=failover.bus, read_models=[model], runner_lease=str)
    assert await lasting_violations(cell) == []


async def test_constraint_rows_are_computed_anew(failover: Failover, schema: str) -> None:
    """What a restore of half a database leaves: rows of events that are gone."""
    log = await EventLog.open(failover.dsn, schema=schema)
    try:
        await enrol(repository_of(log), 1)
        quoted = f'"{schema}"'
        await log.pool.execute(f"INSERT INTO {quoted}.unique_keys VALUES ('address/x', '10.0.0.9', 'lost')")
        await log.pool.execute(f"""UPDATE {quoted}.counters SET "limit" = 9 WHERE scope = 'capacity/vcpus'""")
        found = await recompute_constraints(log, RecordedConstraints(), repair=True)
        assert {difference.scope for difference in found} == {"address/x", "capacity/vcpus"}
        assert await recompute_constraints(log, RecordedConstraints()) == []
    finally:
        await log.close()


async def test_a_lossless_promotion_goes_on_in_the_same_epoch(failover: Failover, schema: str) -> None:
    log = await EventLog.open(failover.dsn, schema=schema)
    try:
        async with relaying(log, failover.bus, "r1", "r2"):
            repository = repository_of(log)
            before = await enrol(repository, *range(10))
            await failover.follow()
            await until_stream_at(failover.bus, before)
            async with EventTail(failover.bus, log) as tail:
                while tail.position < before:
                    await tail.next()
                created = (await failover.bus.js.stream_info(failover.bus.subjects.events_stream)).created
                await failover.promote()
                after = await enrol(repository, *range(10, 20))
                while tail.position < after:
                    await tail.next()
            await until_stream_at(failover.bus, after)
        assert (await log.head()).epoch == 1
        assert await raised(log) == []
        assert (await failover.bus.js.stream_info(failover.bus.subjects.events_stream)).created == created
        await assert_mirrors(failover.bus, log)
    finally:
        await log.close()


async def test_nothing_is_appended_on_another_server_before_it_is_known_to_be_whole(
    failover: Failover, schema: str
) -> None:
    """Without a relay nobody finds out: an append waits, and is made when one has."""
    log = await EventLog.open(failover.dsn, schema=schema)
    try:
        repository = repository_of(log)
        async with relaying(log, failover.bus, "r1"):
            before = await enrol(repository, 1)
            await until_stream_at(failover.bus, before)
        await failover.follow()
        await failover.promote()
        waiting = asyncio.create_task(enrol(repository, 2))
        done, _ = await asyncio.wait({waiting}, timeout=1.5)
        assert not done
        async with relaying(log, failover.bus, "r2"):
            assert await waiting == before + 2
        assert (await log.head()).epoch == 1
    finally:
        await log.close()


async def test_what_can_t_be_shown_to_be_whole_is_not(failover: Failover, schema: str) -> None:
    """The stream is lost together with the primary: whether the standby has all events, nobody can tell."""
    log = await EventLog.open(failover.dsn, schema=schema)
    try:
        async with relaying(log, failover.bus, "r1"):
            before = await enrol(repository_of(log), 1, 2)
            await until_stream_at(failover.bus, before)
        await failover.follow()
        await failover.promote()
        await failover.bus.js.delete_stream(failover.bus.subjects.events_stream)
        async with relaying(log, failover.bus, "r1"):
            await until_epoch(log, 2)
            await until_stream_at(failover.bus, before + 1)
        [(_, epoch)] = await raised(log)
        assert epoch.published_position == 0
        await assert_mirrors(failover.bus, log)
    finally:
        await log.close()
