"""Creates and deletes whose commands and reports come late, twice, in another order, or whose answers are lost: they
end as they would have ended (DESIGN §5, §8)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from cirra.agent.v1.desired_pb2 import DESIRED_POWER_ON
from core.bus import connect
from core.saga import SagaRun
from core.saga.state import SagaStatus
from core.testing.faults.bus import Shuffle, Shuffler
from core.testing.servers import Cell
from tests.harness.control_plane import PATIENCE_S, REPLICAS, ControlPlane, Prepared, control_plane
from tests.harness.fake_host import FakeHost
from tests.harness.invariants import check_invariants

HOSTS = ("host-1", "host-2")


@asynccontextmanager
async def shuffled(plane: ControlPlane, shuffle: Shuffle, *, seed: int) -> AsyncIterator[Counter[str]]:
    """All commands and reports of the plane; how often what was done to them."""
    cell = plane.cell
    async with AsyncExitStack() as stack:
        bus = await connect(cell.nats_url, cell=cell.name, name="shuffler", credentials=cell.credentials)
        stack.push_async_callback(bus.close)
        done: Counter[str] = Counter()
        for stream in (bus.subjects.commands_stream, bus.subjects.reports_stream):
            shuffler = Shuffler(bus, stream, shuffle, random=Random(seed))
            shuffler.done = done
            await stack.enter_async_context(shuffler)
        yield done


@pytest.fixture
async def plane(cell: Cell, tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with control_plane(cell, tmp_path) as plane:
        for _ in range(REPLICAS):
            await plane.start_gateway()
        yield plane


async def hosts_of(plane: ControlPlane, *, acks_lost: int = 0) -> list[FakeHost]:
    hosts = [await plane.add_host(FakeHost(name, plane.cell, acks_lost=acks_lost)) for name in HOSTS]
    await plane.hosts_are_up(*HOSTS)
    return hosts


async def create(plane: ControlPlane, prepared: Prepared, count: int) -> list[str]:
    """So many instances at once, all ACTIVE."""
    accepted = await asyncio.gather(*(prepared.create(f"guest-{number}") for number in range(count)))
    await require_completed(plane, [each.operation_id for each in accepted])
    return [each.uid for each in accepted]


async def delete(plane: ControlPlane, prepared: Prepared, uids: list[str]) -> None:
    accepted = await asyncio.gather(*(prepared.delete(uid) for uid in uids))
    await require_completed(plane, [each.operation_id for each in accepted])


async def require_completed(plane: ControlPlane, operations: list[str]) -> None:
    runs: list[SagaRun] = await asyncio.gather(*(plane.ended(operation) for operation in operations))
    assert {run.status for run in runs} == {SagaStatus.COMPLETED}, [(run.error, run.failures) for run in runs]


async def require_all_at_home(plane: ControlPlane, hosts: list[FakeHost], uids: list[str]) -> None:
    """Each on the host that the log names, once; nothing else anywhere; all invariants hold."""
    instances = [await plane.instance(uid) for uid in uids]
    assert all(instance.active for instance in instances)
    for host in hosts:
        here = [(uid, instance) for uid, instance in zip(uids, instances, strict=True) if instance.host == host.name]
        assert host.domains.keys() == {uid for uid, _ in here}
        assert all(found.domain.power == DESIRED_POWER_ON for found in host.domains.values())
        assert host.ports.keys() == {nic.port for _, instance in here for nic in instance.nics}
    await check_invariants(plane)


async def require_nothing(plane: ControlPlane, hosts: list[FakeHost]) -> None:
    assert [(host.domains, host.ports) for host in hosts] == [({}, {})] * len(hosts)
    for scope in ("quota/instances", "quota/ports", "capacity/vcpus"):
        assert not any(counter.used for counter in (await plane.repository.log.counters(scope)).values()), scope
    await check_invariants(plane)


@pytest.mark.parametrize("seed", [1])
async def test_late_doubled_and_overtaken_messages_change_nothing(plane: ControlPlane, seed: int) -> None:
    hosts = await hosts_of(plane)
    prepared = await plane.prepare()
    shuffle = Shuffle(twice=0.4, outdated=0.7, late=0.2, late_s=1.0, overtaken=0.3)
    async with shuffled(plane, shuffle, seed=seed) as done:
        uids = await create(plane, prepared, 5)
        await delete(plane, prepared, uids[:3])
        await require_all_at_home(plane, hosts, uids[3:])
    assert min(done["twice"], done["outdated"], done["late"], done["overtaken"]) > 3, done
    assert sum(host.refused for host in hosts), "no command came too late"
    await require_all_at_home(plane, hosts, uids[3:])
    await delete(plane, prepared, uids[3:])
    await require_nothing(plane, hosts)


async def test_commands_whose_acknowledgement_is_lost_come_again_and_change_nothing(plane: ControlPlane) -> None:
    hosts = await hosts_of(plane, acks_lost=2)
    prepared = await plane.prepare()
    uids = await create(plane, prepared, 4)
    await require_all_at_home(plane, hosts, uids)
    await delete(plane, prepared, uids)
    await until_each_came_again(hosts, uids)
    await require_nothing(plane, hosts)


async def until_each_came_again(hosts: list[FakeHost], uids: list[str]) -> None:
    """Of each guest the last command, which nothing replaces any more, was brought a second time."""

    def times(uid: str) -> int:
        told = [desired.generation for host in hosts for desired in host.told if desired.object_id == uid]
        return told.count(max(told, default=0))

    async with asyncio.timeout(PATIENCE_S):
        while not all(times(uid) > 1 for uid in uids):  # noqa: ASYNC110 - hosts tell nobody
            await asyncio.sleep(0.02)


async def test_what_is_lost_on_its_way_is_sent_again(plane: ControlPlane) -> None:
    hosts = await hosts_of(plane)
    prepared = await plane.prepare()
    async with shuffled(plane, Shuffle(lost=0.1, unanswered=0.1), seed=3) as done:
        uids = await create(plane, prepared, 4)
        await require_all_at_home(plane, hosts, uids)
        await delete(plane, prepared, uids)
        await require_nothing(plane, hosts)
    assert done["lost"] + done["unanswered"] > 0, done
