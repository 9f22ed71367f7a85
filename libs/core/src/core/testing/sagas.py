"""The four tests that every saga passes (DESIGN §4), for any saga on any stage.

    kit = Interposed(INSTANCE_CREATE)          # `kit.saga` goes where the saga went: its steps are the saga's own
    await fails(stage, At("spawn", Moment.AFTER))

- `fails`: at a step, before or after its effect. Before the pivot nothing is left; after it the run is stuck, visible,
  and completes once a person has it retried. `fails_undoing`: an undo fails, and the stuck run unwinds once retried.
- `cancels`: a person cancels while it stands at a point. `resolves`, `resolves_undoing`: a person gives a stuck run up.
- `crashes`, `crashes_undoing`: the runner dies while runs stand at all kinds of points; another finishes them.
- `repeats_dos`, `repeats_undos`: each effect happens twice.
- `dos_after_undos`, `dos_amid_undos`: what a paused runner does that wakes after its run was unwound by another, or
  while it is; `wakes_in_next_attempt`: while the run tries again elsewhere.

A *stage* is a running system on which the saga can be started, and which knows how to look whether all is well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Generic, Literal, Protocol, TypeVar
from uuid import UUID

from google.protobuf.message import Message

from core.saga import Saga, SagaRun, Step, StepContext, StepError, Together, taken_at_start
from core.saga.engine import CANCELLED
from core.saga.state import SagaStatus

P = TypeVar("P", bound=Message)
Direction = Literal["do", "undo"]

PATIENCE_S = 120.0
LATE_S = 1.0
MADE_TO_FAIL = "MADE_TO_FAIL"


class Moment(Enum):
    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True, slots=True)
class At:
    """A point of a run: before or after what a step does, or undoes."""

    step: str
    moment: Moment
    direction: Direction = "do"
    attempt: int = 1

    def __str__(self) -> str:
        return f"{self.moment.value} {'undo of ' if self.direction == 'undo' else ''}{self.step}"


@dataclass
class Plan:
    """What shall happen to one run. `fail`: at each of these points, once. `held`: it is at `hold`, until `go_on`."""

    fail: tuple[At, ...] = ()
    reschedule: bool = False
    hold: At | None = None
    repeat: frozenset[Direction] = frozenset()
    held: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    failed: set[At] = field(default_factory=set)

    async def pass_by(self, point: At) -> None:
        """Stops or fails a run that is at this point."""
        if point == self.hold and not self.go_on.is_set():
            self.held.set()
            await self.go_on.wait()
        if point in self.fail and point not in self.failed:
            self.failed.add(point)
            raise StepError(f"made to fail {point}", reason=MADE_TO_FAIL, reschedule=self.reschedule)


@dataclass(frozen=True, slots=True)
class Effect:
    """An effect that a runner began, with all that it knew: it can be had again, late."""

    direction: Direction
    step: str
    context: StepContext[Any]
    act: Any

    async def again(self) -> BaseException | None:
        """What a runner does that was paused and wakes now. Answers what stopped it, if anything did.

        One that waits for something is given up after a while: its runner would lose the run with its next append.
        """
        try:
            async with asyncio.timeout(LATE_S):
                await self.act(self.context)
        except Exception as error:
            return error
        return None


class Interposed(Generic[P]):
    """A saga whose runs can be made to fail, stop and repeat. `next_plan` is the plan of the next run that begins."""

    def __init__(self, saga: Saga[P]) -> None:
        self.original = saga
        self.saga = replace(saga, steps=tuple(self._wrapped(step) for step in saga.steps))
        self.next_plan = Plan()
        self.effects: dict[UUID, list[Effect]] = {}
        self._plans: dict[UUID, Plan] = {}

    def points(self, direction: Direction = "do") -> list[At]:
        """Before and after every do, or every undo."""
        return [
            At(step.name, moment, direction)
            for step in self.original.steps
            for moment in Moment
            if (step.do is not taken_at_start if direction == "do" else step.undo is not None)
        ]

    def _wrapped(self, step: Step[P]) -> Step[P]:
        async def do(context: StepContext[P]) -> Message | Together | None:
            plan = self._seen("do", step.name, context, step.do)
            await plan.pass_by(At(step.name, Moment.BEFORE, "do", context.attempt))
            result = await step.do(context)
            if "do" in plan.repeat:
                result = await step.do(context)
            await plan.pass_by(At(step.name, Moment.AFTER, "do", context.attempt))
            return result

        async def undo(context: StepContext[P]) -> None:
            plan = self._seen("undo", step.name, context, step.undo)
            assert step.undo is not None
            await plan.pass_by(At(step.name, Moment.BEFORE, "undo", context.attempt))
            await step.undo(context)
            if "undo" in plan.repeat:
                await step.undo(context)
            await plan.pass_by(At(step.name, Moment.AFTER, "undo", context.attempt))

        return replace(
            step,
            do=step.do if step.do is taken_at_start else do,
            undo=undo if step.undo is not None else None,
        )

    def _seen(self, direction: Direction, step: str, context: StepContext[P], act: Any) -> Plan:
        effects = self.effects.setdefault(context.saga_id, [])
        if context.saga_id not in self._plans:
            self._plans[context.saga_id], self.next_plan = self.next_plan, Plan()
        effects.append(Effect(direction, step, context, act))
        return self._plans[context.saga_id]


class Stage(Protocol):
    """`kit.saga` is what runs here."""

    kit: Interposed[Any]

    async def begin(self) -> UUID:
        """Starts a run; its id."""
        ...

    async def ended(self, saga_id: UUID) -> SagaRun:
        """The run once it has ended or is stuck."""
        ...

    async def retry(self, saga_id: UUID) -> None:
        """A person has a stuck run tried again."""
        ...

    async def resolve(self, saga_id: UUID) -> None:
        """A person gives a stuck run up."""
        ...

    async def cancel(self, saga_id: UUID) -> bool:
        """A person cancels a run; False when that is refused."""
        ...

    async def crash_runner(self) -> None:
        """The one replica that runs everything dies; another begins."""
        ...

    async def require_done(self, run: SagaRun) -> None:
        """Fails unless all is as a completed run leaves it."""
        ...

    async def require_clean(self, run: SagaRun) -> None:
        """Fails unless nothing is left of a run that was unwound."""
        ...

    async def require_abandoned(self, run: SagaRun) -> None:
        """Fails unless the target of a run that was given up is at rest, and nothing is left of it once hosts have done
        what is desired."""
        ...

    async def require_sound(self) -> None:
        """Fails unless all invariants hold (`core.testing.invariants`)."""
        ...


async def begun(stage: Stage, plan: Plan) -> UUID:
    """A run with this plan."""
    stage.kit.next_plan = plan
    return await stage.begin()


async def held(plan: Plan) -> None:
    """Returns once the plan's run stands where it shall."""
    async with asyncio.timeout(PATIENCE_S):
        await plan.held.wait()


async def _require_completed(stage: Stage, saga_id: UUID) -> None:
    run = await stage.ended(saga_id)
    assert run.status is SagaStatus.COMPLETED, (run.status, run.error, run.failures)
    await stage.require_done(run)
    await stage.require_sound()


async def _require_unwound(stage: Stage, saga_id: UUID, reason: str = MADE_TO_FAIL) -> SagaRun:
    run = await stage.ended(saga_id)
    assert run.status is SagaStatus.UNWOUND, (run.status, run.error)
    assert run.error is not None
    assert run.error.reason == reason
    await stage.require_clean(run)
    await stage.require_sound()
    return run


def can_unwind(saga: Saga[Any], at: At) -> bool:
    """Whether a run that fails there may still compensate: the pivot has not succeeded."""
    pivots = [saga.position(step.name) for step in saga.steps if step.pivot]
    return not saga.forward_only and (not pivots or saga.position(at.step) <= max(pivots))


def can_cancel(saga: Saga[Any], at: At) -> bool:
    """Whether a run that stands there can still be cancelled: the log does not know yet that the pivot has succeeded,
    which it learns with the start of the next step, or the end of one that only decides."""
    if saga.forward_only or can_unwind(saga, at):
        return not saga.forward_only
    pivot = max(saga.position(step.name) for step in saga.steps if step.pivot)
    return all(step.only_decides for step in saga.steps[pivot + 1 : saga.position(at.step) + 1])


async def fails(stage: Stage, at: At) -> None:
    """Clean slate before the pivot; after it stuck, and completed when retried."""
    saga_id = await begun(stage, Plan(fail=(at,)))
    if can_unwind(stage.kit.original, at):
        await _require_unwound(stage, saga_id)
    else:
        assert (await stage.ended(saga_id)).status is SagaStatus.STUCK
        await stage.retry(saga_id)
        await _require_completed(stage, saga_id)


async def fails_undoing(stage: Stage, at: At, undoing: At) -> None:
    """Fails at a point, and again at one of an undo: stuck, never swallowed; clean once a person has it retried."""
    saga_id = await begun(stage, Plan(fail=(at, undoing)))
    assert (await stage.ended(saga_id)).status is SagaStatus.STUCK
    await stage.retry(saga_id)
    await _require_unwound(stage, saga_id)


async def cancels(stage: Stage, at: At) -> None:
    """Clean slate where it can still be undone; refused, and completed, where it only goes forward."""
    plan = Plan(hold=at)
    saga_id = await begun(stage, plan)
    await held(plan)
    cancelled = await stage.cancel(saga_id)
    plan.go_on.set()
    assert cancelled == can_cancel(stage.kit.original, at)
    if cancelled:
        await _require_unwound(stage, saga_id, CANCELLED)
    else:
        await _require_completed(stage, saga_id)


async def resolves(stage: Stage, at: At) -> None:
    """Fails at a point beyond which it only goes forward, and is given up."""
    assert not can_unwind(stage.kit.original, at)
    await _resolve(stage, await begun(stage, Plan(fail=(at,))))


async def resolves_undoing(stage: Stage, at: At, undoing: At) -> None:
    """Fails at a point, and again at one of an undo, and is given up there."""
    await _resolve(stage, await begun(stage, Plan(fail=(at, undoing))))


async def _resolve(stage: Stage, saga_id: UUID) -> None:
    assert (await stage.ended(saga_id)).status is SagaStatus.STUCK
    await stage.resolve(saga_id)
    run = await stage.ended(saga_id)
    assert run.status is SagaStatus.RESOLVED
    await stage.require_abandoned(run)
    await stage.require_sound()


async def crashes(stage: Stage, points: Sequence[At]) -> None:
    """One run stands at each of the points when their runner dies: another one finishes them all."""
    for run in await _adopted(stage, {at: Plan(hold=at) for at in points}, SagaStatus.COMPLETED):
        await stage.require_done(run)
    await stage.require_sound()


async def crashes_undoing(stage: Stage, at: At, points: Sequence[At]) -> None:
    """As `crashes`, of runs that fail at one point and are being unwound."""
    plans = {undoing: Plan(fail=(at,), hold=undoing) for undoing in points}
    for run in await _adopted(stage, plans, SagaStatus.UNWOUND):
        await stage.require_clean(run)
    await stage.require_sound()


async def _adopted(stage: Stage, plans: Mapping[At, Plan], status: SagaStatus) -> Iterable[SagaRun]:
    """The runs of these plans, which were held when their runner died, once they have ended as they should."""
    runs: dict[At, UUID] = {}
    for at, plan in plans.items():
        runs[at] = await begun(stage, plan)
        await held(plan)
    await stage.crash_runner()
    for plan in plans.values():
        plan.go_on.set()
    ended = {at: await stage.ended(saga_id) for at, saga_id in runs.items()}
    assert {str(at): run.status for at, run in ended.items()} == {str(at): status for at in plans}
    return ended.values()


async def repeats_dos(stage: Stage) -> None:
    await _require_completed(stage, await begun(stage, Plan(repeat=frozenset({"do"}))))


async def repeats_undos(stage: Stage, at: At) -> None:
    """Unwinds from a point, each undo twice, and each do before it too."""
    await _require_unwound(stage, await begun(stage, Plan(fail=(at,), repeat=frozenset({"do", "undo"}))))


async def dos_after_undos(stage: Stage, at: At) -> None:
    """Fails at a point and is unwound; then every do that was ever begun comes once more: nothing comes into being."""
    saga_id = await begun(stage, Plan(fail=(at,)))
    run = await _require_unwound(stage, saga_id)
    for effect in list(stage.kit.effects[saga_id]):
        if effect.direction == "do":
            await effect.again()
            await stage.require_clean(run)
    await stage.require_sound()


async def dos_amid_undos(stage: Stage, at: At, undoing: At) -> None:
    """As `dos_after_undos`, while the run that is unwound stands at a point: all of it is clean in the end."""
    plan = Plan(fail=(at,), hold=undoing)
    saga_id = await begun(stage, plan)
    await held(plan)
    for effect in list(stage.kit.effects[saga_id]):
        if effect.direction == "do":
            await effect.again()
    plan.go_on.set()
    await _require_unwound(stage, saga_id)


async def wakes_in_next_attempt(stage: Stage, at: At, stands: At) -> None:
    """The run fails at a point and tries again elsewhere. While its second attempt stands at another point, everything
    that the first one did and undid comes once more; the second attempt completes all the same."""
    plan = Plan(fail=(at,), reschedule=True, hold=replace(stands, attempt=2))
    saga_id = await begun(stage, plan)
    await held(plan)
    for effect in list(stage.kit.effects[saga_id]):
        if effect.context.attempt == 1:
            await effect.again()
    plan.go_on.set()
    await _require_completed(stage, saga_id)
