"""The log loses its last events while guests run: real services, real agents on simulated drivers.

One story, told once for each way to lose them: it takes a whole cloud. A was there before what is lost, B came in it,
C went in it, D was being built when it began.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import pytest
import pytest_asyncio

from cirra.agent.v1.desired_pb2 import DesiredObject
from cirra.compute.v1 import compute_pb2 as compute
from cirra.operations.v1.operations_pb2 import Operation
from cirra.placement.v1 import differences_pb2 as pb
from cirra_sdk.errors import CirraApiError
from core.bus import publish_command
from core.eventlog import EventLog
from core.eventlog.rebuild import recompute_constraints
from core.repository import RecordedConstraints
from tests.chaos.cloud import CELL, HOSTS, PATIENCE_S, ChaosCloud, chaos_cloud
from tests.chaos.hosts import SimulatedHost
from tests.harness.invariants import cell_under_check, require_sound
from tests.harness.log_watch import LogWatch
from tests.integration.epochs.conftest import until_epoch
from tests.integration.epochs.losses import Loss, promotion, restore

# As the other tests of a whole cloud: longer than each of the waits in it.
pytestmark = pytest.mark.timeout(600)

Found = set[tuple[str, str, str]]
"""Kind of difference, kind of object, id."""


@dataclass(frozen=True, slots=True)
class Guest:
    instance: compute.Instance

    @property
    def uid(self) -> str:
        return self.instance.uid

    @property
    def ports(self) -> set[str]:
        return {nic.port.rpartition("/")[2] for nic in self.instance.nics}

    def differ(self, kind: str) -> Found:
        return {(kind, "domain", self.uid), *((kind, "port", port) for port in self.ports)}


@pytest_asyncio.fixture
async def cloud(log_watch: LogWatch) -> AsyncIterator[ChaosCloud]:
    with log_watch.folder("cirra-epochs-") as folder:
        # A host that is kept from building is no host that is down.
        async with chaos_cloud(folder, settings={"CIRRA_HEARTBEAT_WINDOW_S": "60"}) as running:
            yield running


@pytest.mark.parametrize("losing", [restore, promotion])
async def test_lost_events_touch_no_guest(cloud: ChaosCloud, losing: Loss) -> None:
    a, c = await booted(cloud, "a"), await booted(cloud, "c")
    building = await wanted_and_not_built(cloud, "d")
    async with losing(cloud) as lose:
        for host in cloud.hosts:
            host.compute.let_up()
        d = await finished(cloud, building)
        b = await booted(cloud, "b")
        await deleted(cloud, c)
        before = {host.name: processes(host) for host in cloud.hosts}
        assert {uid for running in before.values() for uid in running} == {a.uid, b.uid, d.uid}
        await cloud.log.close()
        await lose()
    log = await EventLog.open(cloud.postgres.dsn, schema=f"{CELL}_log")
    try:
        await until_epoch(log, 2)
        # D is as it was to be by then: nobody had told of it.
        assert await listed(cloud) == b.differ("UNKNOWN") | c.differ("MISSING")
        await nothing_moves_yet(cloud, building)
        assert {host.name: processes(host) for host in cloud.hosts} == before
        await accepted(cloud)
        done = await finished(cloud, building)
        assert done.uid == d.uid
        assert {host.name: processes(host) for host in cloud.hosts} == before, "the same guests, never started again"
        await in_error(cloud, c)
        await old_commands_are_refused(cloud, a)
        new = await booted(cloud, "new")
        after = {uid: process for host in cloud.hosts for uid, process in processes(host).items()}
        assert after.keys() == {a.uid, b.uid, d.uid, new.uid}
        assert await recompute_constraints(log, RecordedConstraints()) == []
        await require_sound(await cell_under_check(log, cloud.bus), patience_s=PATIENCE_S)
    finally:
        await log.close()


async def booted(cloud: ChaosCloud, name: str) -> Guest:
    client = cloud.customer.clients[0]
    operation = await cloud.customer.create(client, name)
    return await finished(cloud, operation)


async def finished(cloud: ChaosCloud, operation: Operation) -> Guest:
    client = cloud.customer.clients[0]
    await client.operations.wait(operation, timeout_s=PATIENCE_S)
    instance = await client.instances.get(operation.target)
    assert instance.status == compute.INSTANCE_STATUS_ACTIVE
    return Guest(instance)


async def deleted(cloud: ChaosCloud, guest: Guest) -> None:
    client = cloud.customer.clients[0]
    await client.operations.wait(await client.instances.delete(guest.instance), timeout_s=PATIENCE_S)


async def wanted_and_not_built(cloud: ChaosCloud, name: str) -> Operation:
    """A guest is to be built, and no agent has done it yet: all are down."""
    for host in cloud.hosts:
        host.compute.keep_down()
        await host.compute.kill()
    operation = await cloud.customer.create(cloud.customer.clients[0], name)
    uid = operation.target.rpartition("/")[2]
    async with asyncio.timeout(PATIENCE_S):
        while not await _wanted(cloud, uid):  # noqa: ASYNC110 - a database is asked
            await asyncio.sleep(0.05)
    return operation


async def _wanted(cloud: ChaosCloud, uid: str) -> bool:
    return bool(
        await cloud.log.pool.fetchval(
            f"SELECT EXISTS (SELECT FROM {CELL}_conductor.desired WHERE object_id = $1 AND kind = 'domain')", uid
        )
    )


def processes(host: SimulatedHost) -> Mapping[str, str]:
    """Instance → its guest as the simulated hypervisor keeps it: process, number of starts, state."""
    return {uid: host.guest(uid) for uid in host.contents().running}


async def listed(cloud: ChaosCloud) -> Found:
    """What differs on all hosts, once their agents have told."""
    found: Found = set()
    for name in HOSTS:
        async with asyncio.timeout(PATIENCE_S):
            while (answer := await cloud.admin.hosts.differences(name)).awaited_agents:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert answer.observe_only
        assert (answer.epoch, answer.accepted_epoch) == (2, 1)
        found |= {
            (pb.DifferenceKind.Name(each.kind).removeprefix("DIFFERENCE_KIND_"), each.object_kind, each.object_id)
            for each in answer.differences
        }
    return found


async def nothing_moves_yet(cloud: ChaosCloud, building: Operation) -> None:
    """No host takes anything new, and who waits for one goes on waiting. What clients saw of the lost history is no
    reason to wait for it."""
    async with asyncio.timeout(PATIENCE_S):
        while not all([(await cloud.admin.hosts.get(name)).observe_only for name in HOSTS]):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    client = cloud.customer.clients[0]
    with pytest.raises(CirraApiError, match="accepted: 3 hosts removed"):
        await client.operations.wait(await cloud.customer.create(client, "nowhere"), timeout_s=PATIENCE_S)
    assert not (await client.operations.get(building.name)).done
    with pytest.raises(CirraApiError) as refused:
        await cloud.admin.hosts.accept(HOSTS[0], "0123456789abcdef")
    assert refused.value.reason == "DIFFERENCES_CHANGED"


async def accepted(cloud: ChaosCloud) -> None:
    """As listed, host by host."""
    for name in HOSTS:
        etag = (await cloud.admin.hosts.differences(name)).etag
        host = await cloud.admin.hosts.accept(name, etag)
        assert not host.observe_only
        again = await cloud.admin.hosts.accept(name, etag)
        assert again.uid == host.uid


async def in_error(cloud: ChaosCloud, guest: Guest) -> None:
    """Its disk is gone, and nobody makes it a blank one."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            instance = await cloud.customer.clients[0].instances.get(guest.instance.name)
            if instance.status == compute.INSTANCE_STATUS_ERROR:
                break
            await asyncio.sleep(0.2)
    assert instance.fault.reason == "DISK_MISSING"


async def old_commands_are_refused(cloud: ChaosCloud, guest: Guest) -> None:
    """One that was sent before the loss and comes after it, with a number above all."""
    [host] = [host for host in cloud.hosts if guest.uid in processes(host)]
    before = processes(host)[guest.uid]
    old = DesiredObject(
        host=host.name, agent="compute", kind="domain", object_id=guest.uid, absent=True, generation=1000, epoch=1
    )
    await publish_command(cloud.bus, host.name, "compute", "EnsureDomain", guest.uid, old)
    stream = cloud.bus.subjects.commands_stream
    async with asyncio.timeout(PATIENCE_S):
        while True:
            info = await cloud.bus.js.consumer_info(stream, f"{host.name}--compute")
            if not info.num_pending and not info.num_ack_pending:
                break
            await asyncio.sleep(0.05)
    assert processes(host)[guest.uid] == before
