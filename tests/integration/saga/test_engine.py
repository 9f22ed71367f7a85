"""The saga engine on a real log: effects, failures, other hosts, cancels, replicas that fall silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from cirra.conductor.v1.sagas_pb2 import HostClaimed, InstanceCreateParams
from cirra.operations.v1.events_pb2 import SagaRetried
from core.context import current_context
from core.errors import CirraError, Unavailable
from core.eventlog.log import EventLog
from core.ids import uuid7
from core.repository import Repository
from core.saga import Saga, SagaEngine, SagaRun, Step, StepContext, StepError
from core.saga.state import SagaStatus
from core.sealing import Keyring
from core.testing.servers import Cell

Context = StepContext[InstanceCreateParams]


@dataclass
class World:
    """What the steps change; `trouble` maps a step to the errors that its next runs meet."""

    done: list[str] = field(default_factory=list)
    trouble: dict[str, list[Exception]] = field(default_factory=dict)
    hold: dict[str, asyncio.Event] = field(default_factory=dict)
    entered: asyncio.Queue[str] = field(default_factory=asyncio.Queue)

    async def act(self, name: str) -> None:
        self.entered.put_nowait(name)
        if self.trouble.get(name):
            raise self.trouble[name].pop(0)
        if name in self.hold:
            await self.hold[name].wait()
        self.done.append(name)


async def claim(ctx: Context) -> HostClaimed:
    tried = [each.host for each in ctx.earlier_results("claim", HostClaimed)]
    await ctx.services.act("claim")
    return HostClaimed(host=f"host-{len(tried) + 1}")


def does(name: str) -> Any:
    async def act(ctx: Context) -> None:
        await ctx.services.act(f"{name}{ctx.item}")

    return act


SAGA: Saga[InstanceCreateParams] = Saga(
    name="make",
    params=InstanceCreateParams,
    steps=(
        Step(name="accept", do=does("accept"), undo=does("give up")),
        Step(name="claim", do=claim, undo=does("release")),
        Step(name="bind", do=does("bind "), undo=does("unbind "), each="port_ids"),
        Step(name="start", do=does("start"), no_undo="none needed", pivot=True, deadline=timedelta(seconds=2)),
        Step(name="tell", do=does("tell"), no_undo="after the pivot"),
    ),
    restart_from="claim",
    max_attempts=2,
)
PARAMS = InstanceCreateParams(instance_id="i", port_ids=["a", "b"])
FORWARD = ["accept", "claim", "bind a", "bind b", "start", "tell"]


class Replica:
    """One conductor replica: an engine of its own on the shared log."""

    def __init__(self, repository: Repository, world: World, name: str) -> None:
        self.repository = repository
        self.engine = SagaEngine(repository, [SAGA], runner=name, services=world)

    async def begin(self) -> UUID:
        saga_id = uuid7()
        await self.repository.save(self.engine.prepare(SAGA, PARAMS, target="t", project_id="p", saga_id=saga_id))
        self.engine.launch(saga_id)
        return saga_id

    async def ended(self, saga_id: UUID) -> SagaRun:
        """The run once it has ended or is stuck."""
        async with asyncio.timeout(20):
            while True:
                run = await self.repository.load(SagaRun, saga_id)
                if run.status is not SagaStatus.RUNNING:
                    return run
                await asyncio.sleep(0.02)


@pytest.fixture
async def repository(cell: Cell) -> AsyncIterator[Repository]:
    schema = f"{cell.schema}_log"
    log = await EventLog.open(cell.dsn, schema=schema)
    yield Repository(log, Keyring(log.pool, schema, bytes(32)), current_context)
    await log.close()


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def replica(repository: Repository, world: World) -> AsyncIterator[Replica]:
    replica = Replica(repository, world, "conductor-1")
    yield replica
    await replica.engine.stop()


async def entered(world: World, name: str) -> None:
    """Returns once a step has begun."""
    async with asyncio.timeout(20):
        while await world.entered.get() != name:
            pass


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


async def test_a_deadline_ends_a_step_that_makes_no_progress(replica: Replica, world: World) -> None:
    world.hold["start"] = asyncio.Event()
    run = await replica.ended(await replica.begin())
    assert run.status is SagaStatus.UNWOUND
    assert run.error is not None
    assert run.error.reason == "DEADLINE_EXCEEDED"


async def test_a_deadline_tells_what_it_waited_for(replica: Replica, world: World) -> None:
    world.trouble["start"] = [Unavailable("the host is away")] * 100
    run = await replica.ended(await replica.begin())
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


async def test_a_cancel_interrupts_the_running_step_and_unwinds(replica: Replica, world: World) -> None:
    world.hold["bind b"] = asyncio.Event()
    saga_id = await replica.begin()
    await entered(world, "bind b")
    await replica.repository.change(SagaRun, saga_id, lambda run: run.request_cancel("deleted"))
    replica.engine.cancel_requested(saga_id)
    run = await replica.ended(saga_id)
    assert run.status is SagaStatus.UNWOUND
    assert world.done == ["accept", "claim", "bind a", "unbind b", "unbind a", "release", "give up"]


async def test_an_undo_that_fails_is_stuck_not_swallowed_and_can_be_retried(replica: Replica, world: World) -> None:
    world.trouble["start"] = [StepError("no")]
    world.trouble["unbind a"] = [CirraError("broken undo")]
    saga_id = await replica.begin()
    run = await replica.ended(saga_id)
    assert run.status is SagaStatus.STUCK
    await replica.repository.change(SagaRun, saga_id, lambda it: it.record(SagaRetried(note="mended")))
    replica.engine.launch(saga_id)
    assert (await replica.ended(saga_id)).status is SagaStatus.UNWOUND
    assert world.done[-3:] == ["unbind a", "release", "give up"]


@dataclass
class Orphans:
    ids: list[UUID]

    async def orphaned(self) -> Iterable[UUID]:
        return self.ids


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
    async with asyncio.timeout(20):
        await replica.engine.idle()
    assert world.done == [*done_by_then, "bind a"]  # its own effect ends; nothing follows from it
    run = await repository.load(SagaRun, saga_id)
    assert (run.status, run.runner) == (SagaStatus.COMPLETED, "conductor-2")
    await other.engine.stop()
