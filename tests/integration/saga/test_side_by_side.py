"""Steps that run at the same time: one append begins them, each ends when it has ended, a failure undoes them all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from cirra.operations.v1 import events_pb2 as pb
from core.repository import Repository
from core.saga import SagaRun, StepError
from core.saga.definition import StepKey
from core.saga.state import SagaStatus
from tests.integration.saga.world import SAGA, Orphans, Replica, World, entered

SIDES: dict[str, Any] = {
    "bind": {"beside": "bind"},
    "start": {"beside": "bind", "pivot": False},
    "tell": {"pivot": True},
}
BESIDE = replace(SAGA, steps=tuple(replace(step, **SIDES.get(step.name, {})) for step in SAGA.steps))
TOGETHER = ("bind a", "bind b", "start")
BEFORE, AFTER = ["accept", "claim"], ["tell"]
UNDONE = ["unbind b", "unbind a", "release", "give up"]


@pytest.fixture
async def replica(repository: Repository, world: World) -> AsyncIterator[Replica]:
    replica = Replica(repository, world, "conductor-1", BESIDE)
    yield replica
    await replica.engine.stop()


@pytest.fixture
async def under_way(replica: Replica, world: World) -> UUID:
    """A run that stands within all three."""
    world.hold = {name: asyncio.Event() for name in TOGETHER}
    saga_id = await replica.begin()
    await entered(world, *TOGETHER)
    return saga_id


async def succeeded(repository: Repository, saga_id: UUID, key: StepKey) -> SagaRun:
    """The run once the log says that the step has succeeded."""
    async with asyncio.timeout(60):
        while True:
            run = await repository.load(SagaRun, saga_id)
            if run.steps[key].succeeded:
                return run
            await asyncio.sleep(0.01)


async def test_they_begin_together(under_way: UUID, replica: Replica, repository: Repository, world: World) -> None:
    events = await repository.log.read_aggregate(under_way)
    starts = [event for event in events if event.type == pb.StepStarted.DESCRIPTOR.full_name][-3:]
    assert len({event.recorded_at for event in starts}) == 1
    for hold in world.hold.values():
        hold.set()
    assert (await replica.ended(under_way)).status is SagaStatus.COMPLETED
    assert (world.done[:2], set(world.done[2:5]), world.done[5:]) == (BEFORE, set(TOGETHER), AFTER)


async def test_one_that_has_ended_is_in_the_log_while_others_run(
    under_way: UUID, replica: Replica, repository: Repository, world: World
) -> None:
    world.hold["start"].set()
    run = await succeeded(repository, under_way, ("start", ""))
    assert [run.steps["bind", item].succeeded for item in ("a", "b")] == [False, False]
    world.hold["bind a"].set()
    world.hold["bind b"].set()
    assert (await replica.ended(under_way)).status is SagaStatus.COMPLETED
    assert world.done == [*BEFORE, "start", "bind a", "bind b", *AFTER]


async def test_when_one_fails_all_are_undone(replica: Replica, world: World) -> None:
    world.hold["bind b"] = asyncio.Event()
    world.trouble["bind a"] = [StepError("no", reason="BROKEN")]
    run = await replica.ended(await replica.begin())
    assert run.status is SagaStatus.UNWOUND
    assert [failure.reason for failure in run.failures] == ["BROKEN"]
    assert [name for name in world.done if name != "start"] == [*BEFORE, *UNDONE]


async def test_of_two_failures_the_first_is_the_cause(replica: Replica, world: World) -> None:
    world.trouble = {name: [StepError(name, reason="BROKEN")] for name in ("bind b", "start")}
    run = await replica.ended(await replica.begin())
    assert [failure.message for failure in run.failures] == ["bind b"]
    assert world.done == [*BEFORE, "bind a", *UNDONE]


async def test_elsewhere_they_run_side_by_side_again(replica: Replica, world: World) -> None:
    world.trouble["start"] = [StepError("bad host", reschedule=True)]
    run = await replica.ended(await replica.begin())
    assert (run.status, run.attempt) == (SagaStatus.COMPLETED, 2)
    assert set(world.done[-4:-1]) == set(TOGETHER)


async def test_a_cancel_breaks_all_of_them_off(
    under_way: UUID, replica: Replica, repository: Repository, world: World
) -> None:
    await repository.change(SagaRun, under_way, lambda run: run.request_cancel("a mistake"))
    replica.engine.cancel_requested(under_way)
    assert (await replica.ended(under_way)).status is SagaStatus.UNWOUND
    assert world.done == [*BEFORE, *UNDONE]


async def test_another_replica_finishes_what_was_not(
    under_way: UUID, replica: Replica, repository: Repository, world: World
) -> None:
    world.hold["bind a"].set()
    await succeeded(repository, under_way, ("bind", "a"))
    await replica.engine.stop()
    world.hold.clear()
    other = Replica(repository, world, "conductor-2", BESIDE)
    assert await other.engine.adopt(Orphans([under_way])) == 1
    assert (await other.ended(under_way)).status is SagaStatus.COMPLETED
    assert sorted(world.done) == sorted([*BEFORE, *TOGETHER, *AFTER])
    await other.engine.stop()
