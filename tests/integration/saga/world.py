"""A saga, what its steps change, and replicas that run it on a real log."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from cirra.conductor.v1.sagas_pb2 import HostClaimed, InstanceCreateParams
from core.ids import uuid7
from core.repository import Repository
from core.saga import Abandoned, Interventions, Orphan, Saga, SagaEngine, SagaRun, Step, StepContext
from core.saga.state import SagaStatus

PATIENCE_S = 60.0
Context = StepContext[InstanceCreateParams]


Abandon = Callable[[StepContext[Any]], Awaitable[Abandoned]]


@dataclass
class World:
    """What the steps change; `trouble` maps a step to the errors that its next runs meet."""

    done: list[str] = field(default_factory=list)
    trouble: dict[str, list[Exception]] = field(default_factory=dict)
    hold: dict[str, asyncio.Event] = field(default_factory=dict)
    entered: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    # What a run leaves when a person gives it up, or why that can't be.
    abandon: Abandon | None = None
    abandoned: list[StepContext[Any]] = field(default_factory=list)

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


async def abandon(ctx: Context) -> Abandoned:
    ctx.services.abandoned.append(ctx)
    return await ctx.services.abandon(ctx) if ctx.services.abandon else Abandoned((), ("a guest on host-1",))


def does(name: str) -> Any:
    async def act(ctx: Context) -> None:
        ctx.on_host("host-1")
        await ctx.services.act(f"{name}{ctx.item}")

    return act


SAGA: Saga[InstanceCreateParams] = Saga(
    name="make",
    params=InstanceCreateParams,
    steps=(
        Step(name="accept", do=does("accept"), undo=does("give up")),
        Step(name="claim", do=claim, undo=does("release")),
        Step(name="bind", do=does("bind "), undo=does("unbind "), each="port_ids"),
        Step(name="start", do=does("start"), no_undo="none needed", pivot=True),
        Step(name="tell", do=does("tell"), no_undo="after the pivot"),
    ),
    restart_from="claim",
    max_attempts=2,
    abandon=abandon,
)
PARAMS = InstanceCreateParams(instance_id="i", port_ids=["a", "b"])
# `start` is late soon.
HURRIED = replace(
    SAGA,
    steps=tuple(replace(step, deadline=timedelta(seconds=2)) if step.name == "start" else step for step in SAGA.steps),
)
FORWARD = ["accept", "claim", "bind a", "bind b", "start", "tell"]


class Replica:
    """One conductor replica: an engine of its own on the shared log."""

    def __init__(
        self, repository: Repository, world: World, name: str, saga: Saga[InstanceCreateParams] = SAGA
    ) -> None:
        self.repository = repository
        self.saga = saga
        self.engine = SagaEngine(repository, [saga], runner=name, services=world)
        self.interventions = Interventions(repository, self.engine)

    async def begin(self) -> UUID:
        saga_id = uuid7()
        run = self.engine.prepare(self.saga, PARAMS, target="t", project_id="p", saga_id=saga_id)
        await self.repository.save(run)
        self.engine.launch(saga_id)
        return saga_id

    async def ended(self, saga_id: UUID) -> SagaRun:
        """The run once it has ended or is stuck."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                run = await self.repository.load(SagaRun, saga_id)
                if run.status is not SagaStatus.RUNNING:
                    return run
                await asyncio.sleep(0.02)


@dataclass
class Orphans:
    """What `conductor-1` left."""

    ids: list[UUID]
    left_at: datetime | None = None

    async def orphaned(self) -> Iterable[Orphan]:
        return [Orphan(saga_id, "conductor-1", self.left_at) for saga_id in self.ids]


async def entered(world: World, *names: str) -> None:
    """Returns once these steps have begun, in whatever order."""
    awaited = set(names)
    async with asyncio.timeout(PATIENCE_S):
        while awaited:
            awaited.discard(await world.entered.get())
