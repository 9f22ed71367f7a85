"""What a person does about a run: retry, resolve, cancel; against other persons, other replicas, and crashes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from core.context import acting
from core.errors import CirraError, FailedPrecondition, Unavailable
from core.repository import Repository
from core.saga import Abandoned, SagaRun, StepContext, StepError
from core.saga.state import SagaStatus
from tests.integration.saga.world import FORWARD, PARAMS, SAGA, Orphans, Replica, World, entered


@pytest.fixture
async def other(repository: Repository, world: World) -> AsyncIterator[Replica]:
    other = Replica(repository, world, "conductor-2")
    yield other
    await other.engine.stop()


async def stuck(replica: Replica, world: World) -> UUID:
    """A run of which the undo of `bind a` has failed, for good."""
    world.trouble["start"] = [StepError("no", reason="BROKEN")]
    world.trouble["unbind a"] = [CirraError("the host refuses")]
    saga_id = await replica.begin()
    assert (await replica.ended(saga_id)).status is SagaStatus.STUCK
    await replica.engine.idle()
    return saga_id


async def events_of(repository: Repository, saga_id: UUID) -> list[str]:
    return [event.type.rpartition(".")[2] for event in await repository.log.read_aggregate(saga_id)]


async def unwound_as_ever(replica: Replica, world: World, saga_id: UUID) -> None:
    assert (await replica.ended(saga_id)).status is SagaStatus.UNWOUND
    assert world.done[-3:] == ["unbind a", "release", "give up"]


# --- stuck


async def test_a_stuck_run_tells_where_why_and_how_often_it_was_tried(replica: Replica, world: World) -> None:
    world.trouble["start"] = [StepError("no")]
    world.trouble["unbind a"] = [Unavailable("away"), Unavailable("away"), CirraError("the host refuses")]
    run = await replica.ended(await replica.begin())
    assert run.stuck is not None
    assert (run.stuck.step, run.stuck.item, run.stuck.undoing, run.stuck.tries) == ("bind", "a", True, 3)
    assert (run.stuck.error.message, run.stuck.error.host) == ("the host refuses", "host-1")
    assert run.stuck.target == "t"


# --- retried


async def test_a_stuck_run_that_is_retried_goes_on_where_it_stands(
    replica: Replica, repository: Repository, world: World
) -> None:
    saga_id = await stuck(replica, world)
    with acting(actor="user-1"):
        await replica.interventions.retry(saga_id, "host mended")
    await unwound_as_ever(replica, world, saga_id)
    [retried] = [e for e in await repository.log.read_aggregate(saga_id) if e.type.endswith(".SagaRetried")]
    assert retried.actor == "user-1"


async def test_a_step_past_the_pivot_that_is_retried_completes(replica: Replica, world: World) -> None:
    world.trouble["tell"] = [CirraError("no")]
    saga_id = await replica.begin()
    assert (await replica.ended(saga_id)).status is SagaStatus.STUCK
    await replica.interventions.retry(saga_id, "")
    assert (await replica.ended(saga_id)).status is SagaStatus.COMPLETED
    assert world.done == FORWARD


async def test_two_who_retry_at_once_are_one_retry(
    replica: Replica, other: Replica, repository: Repository, world: World
) -> None:
    saga_id = await stuck(replica, world)
    world.hold["unbind a"] = asyncio.Event()
    answers = await asyncio.gather(
        replica.interventions.retry(saga_id, "one"), other.interventions.retry(saga_id, "two"), return_exceptions=True
    )
    [refusal] = [answer for answer in answers if isinstance(answer, BaseException)]
    assert isinstance(refusal, FailedPrecondition)
    assert refusal.reason == "OPERATION_NOT_STUCK"
    assert "watch operation" in refusal.remedy
    world.hold["unbind a"].set()
    await unwound_as_ever(replica, world, saga_id)
    assert (await events_of(repository, saga_id)).count("SagaRetried") == 1
    assert world.done.count("unbind a") == 1


async def test_what_is_retried_elsewhere_is_run_there(
    replica: Replica, other: Replica, repository: Repository, world: World
) -> None:
    saga_id = await stuck(replica, world)
    await other.interventions.retry(saga_id, "")
    await unwound_as_ever(other, world, saga_id)
    assert (await repository.load(SagaRun, saga_id)).runner == "conductor-2"


async def test_a_replica_that_dies_right_after_a_retry_is_taken_over(
    replica: Replica, other: Replica, repository: Repository, world: World
) -> None:
    saga_id = await stuck(replica, world)
    # All that `replica` got done: the append.
    await repository.change(SagaRun, saga_id, lambda run: run.retry("", "conductor-1"))
    assert await other.engine.adopt(Orphans([saga_id])) == 1
    await unwound_as_ever(other, world, saga_id)


async def test_a_stuck_run_is_nobody_s_orphan(
    replica: Replica, other: Replica, repository: Repository, world: World
) -> None:
    saga_id = await stuck(replica, world)
    assert await other.engine.adopt(Orphans([saga_id])) == 0
    assert (await repository.load(SagaRun, saga_id)).runner == "conductor-1"


async def test_only_a_stuck_run_is_retried_or_resolved(replica: Replica, world: World) -> None:
    world.hold["start"] = asyncio.Event()
    saga_id = await replica.begin()
    await entered(world, "start")
    for act in (replica.interventions.retry, replica.interventions.resolve):
        with pytest.raises(FailedPrecondition, match="is running") as refusal:
            await act(saga_id, "why")
        assert refusal.value.remedy.startswith("it goes on by itself")
    world.hold["start"].set()
    assert (await replica.ended(saga_id)).status is SagaStatus.COMPLETED
    for act in (replica.interventions.retry, replica.interventions.resolve):
        with pytest.raises(FailedPrecondition, match="is completed") as refusal:
            await act(saga_id, "why")
        assert "nothing is left to do" in refusal.value.remedy


# --- resolved


async def test_a_resolved_run_ends_in_one_append_with_what_it_leaves(
    replica: Replica, repository: Repository, world: World
) -> None:
    saga_id = await stuck(replica, world)
    bystander = replica.engine.prepare(SAGA, PARAMS, target="t", project_id="p", saga_id=UUID(int=7))
    await repository.save(bystander)

    async def leave(ctx: StepContext[Any]) -> Abandoned:
        changed = await repository.load(SagaRun, UUID(int=7))
        changed.request_cancel("released with it")
        return Abandoned((changed,), ("host-1: a guest",))

    world.abandon = leave
    with acting(actor="user-1", request_id="ResolveOperation/r-1"):
        run, saved = await replica.interventions.resolve(saga_id, "the host is scrap")
    assert run.status is SagaStatus.RESOLVED
    *_, resolved = await repository.log.read_aggregate(saga_id)
    *_, released = await repository.log.read_aggregate(UUID(int=7))
    assert (resolved.position + 1, released.position) == (released.position, saved.position)
    assert (resolved.actor, resolved.request_id) == ("user-1", "ResolveOperation/r-1")
    [context] = world.abandoned
    assert (context.step, context.item) == ("bind", "a")
    assert context.error is not None
    assert (context.error.reason, context.failures[-1].message) == ("BROKEN", "the host refuses")
    assert await replica.engine.adopt(Orphans([saga_id])) == 0


async def test_who_fails_in_the_middle_of_a_resolve_leaves_the_run_stuck(
    replica: Replica, repository: Repository, world: World
) -> None:
    saga_id = await stuck(replica, world)

    async def break_off(ctx: StepContext[Any]) -> Abandoned:
        raise Unavailable("placement is away")

    world.abandon = break_off
    with pytest.raises(Unavailable):
        await replica.interventions.resolve(saga_id, "why")
    assert (await repository.load(SagaRun, saga_id)).status is SagaStatus.STUCK
    world.abandon = None
    await replica.interventions.resolve(saga_id, "why")
    assert (await repository.load(SagaRun, saga_id)).status is SagaStatus.RESOLVED


async def test_a_resolve_that_meets_a_retry_is_refused_and_the_run_goes_on(
    replica: Replica, other: Replica, world: World
) -> None:
    saga_id = await stuck(replica, world)

    async def meanwhile(ctx: StepContext[Any]) -> Abandoned:
        await other.interventions.retry(saga_id, "mended")
        return Abandoned()

    world.abandon = meanwhile
    with pytest.raises(FailedPrecondition):
        await replica.interventions.resolve(saga_id, "why")
    await unwound_as_ever(other, world, saga_id)


async def test_a_resolve_that_meets_an_adoption_resolves_all_the_same(
    replica: Replica, other: Replica, repository: Repository, world: World
) -> None:
    """The adopting replica has read that the run is an orphan before it was stuck."""
    saga_id = await stuck(replica, world)

    async def meanwhile(ctx: StepContext[Any]) -> Abandoned:
        world.abandon = None
        await repository.change(SagaRun, saga_id, lambda run: run.adopt("conductor-2"))
        other.engine.launch(saga_id)
        return Abandoned()

    world.abandon = meanwhile
    await replica.interventions.resolve(saga_id, "why")
    async with asyncio.timeout(60):
        await other.engine.idle()
    assert (await repository.load(SagaRun, saga_id)).status is SagaStatus.RESOLVED
    assert "unbind a" not in world.done
    assert (await events_of(repository, saga_id))[-2:] == ["SagaAdopted", "SagaResolved"]


async def test_two_who_resolve_at_once_are_one_resolution(
    replica: Replica, other: Replica, repository: Repository, world: World
) -> None:
    saga_id = await stuck(replica, world)
    answers = await asyncio.gather(
        replica.interventions.resolve(saga_id, "one"),
        other.interventions.resolve(saga_id, "two"),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers].count(FailedPrecondition) == 1
    assert (await events_of(repository, saga_id)).count("SagaResolved") == 1


# --- cancelled


@pytest.mark.parametrize("step", ["accept", "claim", "bind a", "bind b", "start"])
async def test_a_cancel_breaks_off_the_running_step_and_unwinds(replica: Replica, world: World, step: str) -> None:
    world.hold[step] = asyncio.Event()
    saga_id = await replica.begin()
    await entered(world, step)
    await replica.interventions.cancel(saga_id, "a mistake")
    run = await replica.ended(saga_id)
    assert run.status is SagaStatus.UNWOUND
    assert run.error is not None
    assert (run.error.reason, run.error.message) == ("CANCELLED", "cancelled on request: a mistake")
    undos = {"accept": [], "claim": ["release"], "bind a": ["unbind a", "release"]}
    before = FORWARD[: FORWARD.index(step)]
    assert world.done == [*before, *undos.get(step, ["unbind b", "unbind a", "release"]), "give up"]


async def test_a_cancel_elsewhere_ends_the_run_with_its_next_append(
    replica: Replica, other: Replica, world: World
) -> None:
    world.hold["claim"] = asyncio.Event()
    saga_id = await replica.begin()
    await entered(world, "claim")
    await other.interventions.cancel(saga_id, "")
    world.hold["claim"].set()
    assert (await replica.ended(saga_id)).status is SagaStatus.UNWOUND
    assert world.done == ["accept", "claim", "release", "give up"]


async def test_a_cancel_that_comes_too_late_is_refused(replica: Replica, world: World) -> None:
    world.hold["tell"] = asyncio.Event()
    saga_id = await replica.begin()
    await entered(world, "tell")
    with pytest.raises(FailedPrecondition) as refusal:
        await replica.interventions.cancel(saga_id, "")
    assert refusal.value.reason == "OPERATION_NOT_CANCELLABLE"
    world.hold["tell"].set()
    assert (await replica.ended(saga_id)).status is SagaStatus.COMPLETED
    with pytest.raises(FailedPrecondition) as refusal:
        await replica.interventions.cancel(saga_id, "")
    assert refusal.value.reason == "OPERATION_DONE"


async def test_a_stuck_run_is_not_cancelled(replica: Replica, world: World) -> None:
    saga_id = await stuck(replica, world)
    with pytest.raises(FailedPrecondition) as refusal:
        await replica.interventions.cancel(saga_id, "")
    assert refusal.value.reason == "OPERATION_STUCK"


async def test_cancelling_twice_is_once(replica: Replica, repository: Repository, world: World) -> None:
    world.hold["unbind a"] = asyncio.Event()
    world.hold["start"] = asyncio.Event()
    saga_id = await replica.begin()
    await entered(world, "start")
    await replica.interventions.cancel(saga_id, "")
    await entered(world, "unbind a")
    await replica.interventions.cancel(saga_id, "")
    world.hold["unbind a"].set()
    assert (await replica.ended(saga_id)).status is SagaStatus.UNWOUND
    assert (await events_of(repository, saga_id)).count("SagaCancelRequested") == 1
