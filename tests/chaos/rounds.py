"""One round: many creates at once, somebody dies at a moment, all becomes well, and then all is taken away again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from cirra.compute.v1.compute_pb2 import INSTANCE_STATUS_ACTIVE, Instance
from core.eventlog.types import RecordedEvent
from tests.chaos.cloud import ChaosCloud
from tests.chaos.history import End, History, Moment, Run
from tests.chaos.hosts import Contents
from tests.harness.invariants import cell_under_check, require_sound

CREATES = 10
# A replica that died is noticed after its lease, 5 s; a command that was lost is sent again after 15 s. Work comes on
# top: see `converged_s`.
CONVERGED_S = 60.0
# Patience that only a failure needs.
DELETED_S, SETTLED_S = 120.0, 120.0
_LOOK_AGAIN_S = 0.1

Strike = Callable[[ChaosCloud, RecordedEvent], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one round. `converged_s`: from the strike until the last of the creates had ended."""

    active: int
    rescheduled: int
    adopted: int
    converged_s: float

    @classmethod
    def of(cls, runs: list[Run], converged_s: float) -> Outcome:
        return cls(
            active=sum(run.end is End.COMPLETED for run in runs),
            rescheduled=sum(run.attempt > 1 for run in runs),
            adopted=sum(run.adoptions > 0 for run in runs),
            converged_s=converged_s,
        )


def converged_s(work_s: float) -> float:
    """For how long a fault may hold up what took *work_s*, its first part, with nobody in its way."""
    return CONVERGED_S + min(3 * work_s, CONVERGED_S)


async def _nothing() -> None:
    """What there is to do after most strikes."""


async def creates_while(
    cloud: ChaosCloud,
    moment: Moment,
    strike: Strike,
    *,
    count: int = CREATES,
    ended: Callable[[], Awaitable[None]] = _nothing,
) -> Outcome:
    """All of the creates end well, whatever the strike does; nothing is leaked then, nor after they are deleted.

    `ended`: called when the creates have; what the strike has taken away may come back then.
    """
    history = await History.from_now(cloud.log)
    began = time.monotonic()
    creating = asyncio.create_task(cloud.customer.create_many(count))
    event = await history.until(moment)
    struck = time.monotonic()
    await strike(cloud, event)
    await creating
    runs = await history.until_ended("instance-create", count, converged_s(struck - began))
    outcome = Outcome.of(runs, time.monotonic() - struck)
    await ended()
    assert outcome.active == count, runs
    instances = await cloud.instances()
    assert [instance.status for instance in instances] == [INSTANCE_STATUS_ACTIVE] * count, instances
    await require_nothing_leaked(cloud, instances)
    await delete_all(cloud, instances)
    return outcome


async def delete_all(cloud: ChaosCloud, instances: list[Instance]) -> None:
    """Through the API; afterwards nothing is left of them."""
    history = await History.from_now(cloud.log)
    await cloud.customer.delete_many(instances)
    runs = await history.until_ended("instance-delete", len(instances), DELETED_S)
    assert {run.end for run in runs} == {End.COMPLETED}, runs
    assert await cloud.instances() == []
    await require_nothing_leaked(cloud, [])


async def require_nothing_leaked(cloud: ChaosCloud, instances: list[Instance]) -> None:
    """Soon all invariants hold, and the hosts have those instances that are ACTIVE, each once, and nothing else."""
    await _eventually_hosted(cloud, [each for each in instances if each.status == INSTANCE_STATUS_ACTIVE])
    await require_sound(await cell_under_check(cloud.log, cloud.bus), patience_s=SETTLED_S)
    await _eventually_used(cloud, sum(each.status == INSTANCE_STATUS_ACTIVE for each in instances))


async def _eventually_used(cloud: ChaosCloud, vcpus: int) -> None:
    """What a host had when it died is used until the host is back and has said that it is gone."""
    deadline = time.monotonic() + SETTLED_S
    while True:
        used = {host: counter.used for host, counter in (await cloud.log.counters("capacity/vcpus")).items()}
        if sum(used.values()) == vcpus:
            return
        assert time.monotonic() < deadline, f"{vcpus} vcpus should be used, and are {used}"
        await asyncio.sleep(_LOOK_AGAIN_S)


async def _eventually_hosted(cloud: ChaosCloud, instances: list[Instance]) -> None:
    right = {host.name: _share(host.name, instances) for host in cloud.hosts}
    deadline = time.monotonic() + SETTLED_S
    while (found := {host.name: host.contents() for host in cloud.hosts}) != right:
        assert time.monotonic() < deadline, f"on the hosts is {found}, and should be {right}"
        await asyncio.sleep(_LOOK_AGAIN_S)


def _share(host: str, instances: list[Instance]) -> Contents:
    here = [instance for instance in instances if instance.host == host]
    ids = frozenset(instance.uid for instance in here)
    return Contents(ids, ids, frozenset(nic.port.rpartition("/")[2] for instance in here for nic in instance.nics))
