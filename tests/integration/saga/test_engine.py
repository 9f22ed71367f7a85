"""The saga engine on a real log: effects, failures, other hosts, cancels, replicas that fall silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from cirra.conductor.v1.sagas_pb2 import HostClaimed
from core.errors import CirraError, Unavailable
from core.repository import Repository
from core.saga import SagaRun, StepError
from core.saga.state import SagaStatus
from tests.integration.saga.world import FORWARD, HURRIED, Orphans, Replica, World, entered


async def test_every_step_runs_once_and_in_order(replica: Replica, world: World) -> None:
    run = await replica.ended(await replica.begin())
    assert run.status is SagaStatus.COMPLETED
    assert world.done == FORWARD


@pytest.mark.parametrize(
    ("step", "undone"),
    [
        ("accept", ["give up"]),
        ("claim", ["accept", "release", "give up"]),
        ("bind b", ["accept", "claim", "bind a", "unbind b", "unbind a", "release", "give up"]),
        ("start", [*FORWARD[:4], "unbind b", "unbind a", "release", "give up"]),
    ],
)
async def test_before_the_pivot_a_failure_undoes_what_may_have_run(
    replica: Replica, world: World, step: str, undone: list[str]
) -> None:
    world.trouble[step] = [StepError("no", reason="BROKEN")]
    run = await replica.ended(await replica.begin())
    assert run.status is SagaStatus.UNWOUND
    assert run.error is not None
    assert run.error.reason == "BROKEN"
    assert world.done == undone


async def test_after_the_pivot_a_failure_is_for_a_person(replica: Replica, world: World) -> None:
    world.trouble["tell"] = [CirraError("no")]
    run = await replica.ended(await replica.begin())
    assert run.status is SagaStatus.STUCK
    assert world.done == FORWARD[:-1]


async def test_a_passing_trouble_is_waited_out(replica: Replica, world: World) -> None:
    world.trouble["bind a"] = [Unavailable("away"), Unavailable("still away")]
    run = await replica.ended(await replica.begin())
    assert run.status is SagaStatus.COMPLETED
    assert world.done == FORWARD


@pytest.fixture
async def hurried(repository: Repository, world: World) -> AsyncIterator[Replica]:
    replica = Replica(repository, world, "conductor-1", HURRIED)
    yield replica
    await replica.engine.stop()


async def test_a_deadline_ends_a_step_that_makes_no_progress(hurried: Replica, world: World) -> None:
    world.hold["start"] = asyncio.Event()
    run = await hurried.ended(await hurried.begin())
    assert run.status is SagaStatus.UNWOUND
    assert run.error is not None
    assert run.error.reason == "DEADLINE_EXCEEDED"


async def test_a_deadline_tells_what_it_waited_for(hurried: Replica, world: World) -> None:
    world.trouble["start"] = [Unavailable("the host is away")] * 100
    run = await hurried.ended(await hurried.begin())
    assert run.error is not None
    assert run.error.reason == "DEADLINE_EXCEEDED"
    assert "the host is away" in run.error.message


async def test_a_failure_that_may_go_better_elsewhere_tries_another_host(replica: Replica, world: World) -> None:
    world.trouble["bind b"] = [StepError("bad host", reschedule=True)]
    run = await replica.ended(await replica.begin())
    assert run.status is SagaStatus.COMPLETED
    assert run.attempt == 2
    assert world.done == ["accept", "claim", "bind a", "unbind b", "unbind a", "release", *FORWARD[1:]]
    claimed = HostClaimed()
    result = run.steps["claim", ""].result
    assert result is not None
    assert result.Unpack(claimed)
    assert claimed.host == "host-2"


async def test_the_last_host_fails_for_good(replica: Replica, world: World) -> None:
    world.trouble["bind a"] = [StepError("bad host", reschedule=True), StepError("bad too", reschedule=True)]
    run = await replica.ended(await replica.begin())
    assert run.status is SagaStatus.UNWOUND
    assert [failure.message for failure in run.failures] == ["bad host", "bad too"]
    assert world.done[-2:] == ["release", "give up"]


@pytest.mark.parametrize("step", FORWARD)
async def test_another_replica_finishes_what_a_dead_one_left(
    replica: Replica, repository: Repository, world: World, step: str
) -> None:
    world.hold[step] = asyncio.Event()
    saga_id = await replica.begin()
    await entered(world, step)
    await replica.engine.stop()  # breaks off in the middle of the step
    world.hold.clear()
    other = Replica(repository, world, "conductor-2")
    assert await other.engine.adopt(Orphans([saga_id])) == 1
    run = await other.ended(saga_id)
    assert (run.status, run.runner) == (SagaStatus.COMPLETED, "conductor-2")
    assert world.done == FORWARD
    await other.engine.stop()


async def test_a_run_that_ended_here_is_not_read_again_for_an_orphan(
    replica: Replica, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await replica.ended(await replica.begin())

    async def asked(*_: object, **__: object) -> None:
        raise AssertionError("the log was asked")

    monkeypatch.setattr(repository.log, "read_aggregate", asked)
    assert await replica.engine.adopt(Orphans([run.id])) == 0


async def test_a_replica_that_wakes_too_late_changes_nothing(
    replica: Replica, repository: Repository, world: World
) -> None:
    world.hold["bind a"] = asyncio.Event()
    saga_id = await replica.begin()
    await entered(world, "bind a")
    paused = world.hold.pop("bind a")  # the first replica sleeps in its step; the second one does not
    other = Replica(repository, world, "conductor-2")
    await other.engine.adopt(Orphans([saga_id]))
    await other.ended(saga_id)
    done_by_then = list(world.done)
    paused.set()
    async with asyncio.timeout(60):
        await replica.engine.idle()
    assert world.done == [*done_by_then, "bind a"]  # its own effect ends; nothing follows from it
    run = await repository.load(SagaRun, saga_id)
    assert (run.status, run.runner) == (SagaStatus.COMPLETED, "conductor-2")
    await other.engine.stop()
