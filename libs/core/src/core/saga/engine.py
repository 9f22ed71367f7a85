"""Runs sagas. A run belongs to one replica at a time, by name, in the log; racing replicas meet in its version.

StepStarted is in the log before the effect; a step's success is saved together with the next step's start, and with
what that begins with. A step without an effect of its own has succeeded, and no more is said of it. A runner that loses
an append reloads, and stops if the run is another's now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from opentelemetry import trace

from cirra.operations.v1 import events_pb2 as pb
from cirra.operations.v1 import operations_pb2
from core.aggregate import Aggregate
from core.context import acting, current_context
from core.errors import CirraError
from core.eventlog.errors import VersionConflict
from core.metrics import SAGAS, SAGAS_RUNNING
from core.repository import Repository
from core.saga.deadline import Deadline
from core.saga.definition import Saga, StepError, StepKey, Together, taken_at_start
from core.saga.effects import (
    Notes,
    Outcome,
    as_they_end,
    context_of,
    known,
    observed,
    opening_of,
    outcome_of,
    params_of,
    reported,
    with_retries,
)
from core.saga.plan import (
    Cancel,
    Complete,
    DoStep,
    UndoStep,
    Unwind,
    can_unwind,
    has_started,
    may_restart,
    next_action,
    side_by_side,
)
from core.saga.running import Interrupted, Running
from core.saga.state import SagaRun, SagaStatus
from core.telemetry import extract

log = structlog.get_logger(__name__)
tracer = trace.get_tracer(__name__)

UNDO_ATTEMPTS = 6
CANCELLED = "CANCELLED"
"""The reason of the error of a run that was cancelled."""


@dataclass(frozen=True, slots=True)
class Orphan:
    """A run whose `runner` fell silent. `left_at`: until when that is known to have lived, in Postgres's time."""

    saga_id: UUID
    runner: str
    left_at: datetime | None = None


class OrphanedRuns(Protocol):
    """Where to find runs whose runner fell silent."""

    async def orphaned(self) -> Iterable[Orphan]: ...


class SagaEngine:
    """One per conductor replica. `bus_up` tells whether deadlines run."""

    def __init__(
        self,
        repository: Repository,
        sagas: Iterable[Saga[Any]],
        *,
        runner: str,
        services: Any,
        bus_up: Callable[[], bool] = lambda: True,
    ) -> None:
        self._repository = repository
        self._sagas = {saga.name: saga for saga in sagas}
        self._runner = runner
        self._services = services
        self._bus_up = bus_up
        self._running: dict[UUID, Running] = {}

    @property
    def runner(self) -> str:
        """The name of this replica, as runs know it."""
        return self._runner

    @property
    def services(self) -> Any:
        """What steps work with."""
        return self._services

    def definition(self, run: SagaRun) -> Saga[Any]:
        """The saga that a run is of. Raises KeyError for one that this engine does not know."""
        return self._sagas[run.saga]

    def prepare(self, saga: Saga[Any], params: Message, *, target: str, project_id: str, saga_id: UUID) -> SagaRun:
        """A run to be saved together with what it was started for; `launch` it once that is in the log."""
        if self._sagas.get(saga.name) is not saga:
            raise TypeError(f"saga {saga.name} is not known to this engine")
        packed = AnyMessage()
        packed.Pack(params)
        context = current_context()
        run = SagaRun.new(saga_id)
        run.record(
            pb.SagaStarted(
                saga=saga.name,
                params=packed,
                target=target,
                project_id=project_id,
                runner=self._runner,
                traceparent=context.traceparent,
                correlation_id=context.correlation_id,
                actor=context.actor,
            )
        )
        self._begin(saga, run, params)
        return run

    def _begin(self, saga: Saga[Any], run: SagaRun, params: Message) -> None:
        """What the append that starts a run has taken already, and the start of the first step with an effect."""
        action = next_action(saga, run, params)
        while isinstance(action, DoStep):
            step, item = action.key
            if saga.step(step).do is not taken_at_start:
                run.record(pb.StepStarted(step=step, item=item, attempt=action.attempt))
                return
            run.record(pb.StepSucceeded(step=step, item=item, attempt=action.attempt))
            action = next_action(saga, run, params)

    def launch(self, saga_id: UUID, *, since: int | None = None) -> None:
        """Goes on with a run of ours, in the background. Launching twice is one run.

        `since`: see `StepContext`. Of a run that was just begun, where its append ends; else as far as the log is known
        to reach.
        """
        if saga_id in self._running:
            return
        task = asyncio.create_task(self._run(saga_id), name=f"saga-{saga_id}")
        self._running[saga_id] = Running(task, self._repository.log.known_position if since is None else since)
        task.add_done_callback(lambda done: self._finished(saga_id, done))

    def _finished(self, saga_id: UUID, task: asyncio.Task[None]) -> None:
        self._running.pop(saga_id).settle(False)
        if not task.cancelled() and task.exception() is not None:
            log.error("saga run broke off; it is adopted again", saga_id=str(saga_id), exc_info=task.exception())

    async def stop(self) -> None:
        """Leaves every run where it is; another replica adopts it."""
        tasks = [running.task for running in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def idle(self) -> None:
        """Returns once nothing runs here."""
        while self._running:
            await asyncio.wait({running.task for running in self._running.values()})

    def cancel_requested(self, saga_id: UUID) -> None:
        """Somebody asked in the log to cancel: interrupts the step that is running here."""
        running = self._running.get(saga_id)
        if running is not None and running.effect is not None:
            running.effect.cancel()

    async def adopt(self, orphans: OrphanedRuns) -> int:
        """Takes over what a silent replica left, and what of ours broke off; answers how many."""
        adopted = 0
        for orphan in await orphans.orphaned():
            if orphan.saga_id in self._running or self._has_ended(orphan.saga_id):
                continue
            run = await self._repository.find(SagaRun, orphan.saga_id)
            if run is None or run.status is not SagaStatus.RUNNING or run.runner not in (orphan.runner, self._runner):
                continue  # it has ended, waits for a person, or another replica was first
            try:
                if run.runner != self._runner:
                    run.adopt(self._runner, orphan.left_at)
                    await self._repository.save(run)
            except VersionConflict:
                continue  # another replica was first, or the runner is alive after all
            self.launch(orphan.saga_id)
            adopted += 1
        return adopted

    def _has_ended(self, saga_id: UUID) -> bool:
        """Whether it is known here to have ended: who lists orphans may not have heard of that yet."""
        run = self._repository.remembers(SagaRun, saga_id)
        return run is not None and run.status.ended

    async def _run(self, saga_id: UUID) -> None:
        run = await self._repository.recall(SagaRun, saga_id)
        saga = self.definition(run)
        params = params_of(saga, run)
        parent = extract({"traceparent": run.traceparent})
        with (
            tracer.start_as_current_span(f"saga {saga.name}", context=parent) as span,
            acting(actor=run.actor, correlation=run.correlation_id, causation=str(saga_id)),
            SAGAS_RUNNING.labels(saga.name).track_inprogress(),
        ):
            span.set_attribute("cirra.saga_id", str(saga_id))
            while run.runner == self._runner:
                try:
                    if not await self._advance(saga, run, params):
                        return
                except (VersionConflict, Interrupted):
                    self._running[saga_id].settle(False)
                    run = await self._repository.load(SagaRun, saga_id)
            log.info("run is another replica's now", saga_id=str(saga_id), runner=run.runner)

    async def _advance(self, saga: Saga[Any], run: SagaRun, params: Any) -> bool:
        """One action; False when there is nothing more to do here."""
        match next_action(saga, run, params):
            case DoStep() as first:
                actions = side_by_side(saga, run, params, first)
                if saga.step(first.key[0]).only_decides:
                    pass  # nothing has to be in the log before it
                elif starting := [action for action in actions if not action.started]:
                    await self._start(saga, run, params, starting)
                else:
                    await self._save(run, patient=True)
                await self._do(saga, run, params, actions)
            case UndoStep(key, attempt):
                await self._save(run)
                await self._undo(saga, run, params, key, attempt)
            case Cancel():
                why = f": {run.cancel_reason}" if run.cancel_reason else ""
                error = operations_pb2.OperationError(reason=CANCELLED, message=f"cancelled on request{why}")
                run.record(pb.StepFailed(error=error))
            case Complete():
                run.record(pb.SagaCompleted())
            case Unwind():
                run.record(pb.SagaUnwound(error=run.error))
            case None:  # it has ended, or a person is needed
                await self._save(run)
                SAGAS.labels(saga.name, run.status.value).inc()
                return False
        return True

    async def _start(self, saga: Saga[Any], run: SagaRun, params: Any, actions: Sequence[DoStep]) -> None:
        """Saves that steps start, together with their openings."""
        running = self._running[run.id]
        changed, unsaved = running.unsaved, running.unsaved
        opened: dict[StepKey, tuple[Aggregate, ...]] = {}
        for action in actions:
            step = saga.step(action.key[0])
            if step.opening is not None:
                context = context_of(
                    run, params, self._services, action.key, action.attempt, since=running.since, unsaved=unsaved
                )
                opened[action.key] = await opening_of(step.opening, context)
                unsaved |= {it.id: it for it in opened[action.key]}
            run.record(pb.StepStarted(step=action.key[0], item=action.key[1], attempt=action.attempt))
        await self._save(run, tuple(it for it in unsaved.values() if it.id not in changed), patient=True)
        running.opened = opened

    async def _save(self, run: SagaRun, opened: tuple[Aggregate, ...] = (), *, patient: bool = False) -> None:
        """The run's events between what its last step changed and what the next one begins with. `patient` when it goes
        on by itself: who waits for a run waits for its end."""
        running = self._running[run.id]
        await self._repository.save(*running.changed, run, *opened, patient=patient)
        running.settle(True)

    async def _do(self, saga: Saga[Any], run: SagaRun, params: Any, actions: Sequence[DoStep]) -> None:
        """Runs the effects of steps and records their outcomes (saved with what comes next)."""
        running = self._running[run.id]
        unsaved = running.unsaved if saga.step(actions[0].key[0]).only_decides else {}
        before = [(aggregate, len(aggregate.pending_events)) for aggregate in unsaved.values()]
        opened, running.opened = running.opened, {}
        effects = [self._effect(saga, run, params, action, unsaved, opened.get(action.key, ())) for action in actions]
        if len(effects) > 1:
            await running.interruptible(self._side_by_side(saga, run, params, effects))
            return
        outcome = await running.interruptible(effects[0])
        if outcome.error is not None:
            _take_back(before)
        self._ended(saga, run, params, outcome)

    def _effect(
        self,
        saga: Saga[Any],
        run: SagaRun,
        params: Any,
        action: DoStep,
        unsaved: Mapping[UUID, Aggregate],
        opened: Sequence[Aggregate],
    ) -> Coroutine[Any, Any, Outcome]:
        step, notes = saga.step(action.key[0]), Notes()
        spent = run.steps[action.key].spent if action.started else timedelta()
        deadline = Deadline(step.deadline, step.deadline_cap, running=self._bus_up, spent=spent)
        context = context_of(
            run,
            params,
            self._services,
            action.key,
            action.attempt,
            touch=deadline.touch,
            notes=notes,
            since=self._running[run.id].since,
            unsaved=unsaved,
            opened=opened,
        )
        return outcome_of(saga, context, deadline, notes)

    async def _side_by_side(
        self, saga: Saga[Any], run: SagaRun, params: Any, effects: Sequence[Coroutine[Any, Any, Outcome]]
    ) -> None:
        """Those that end at about the same time are saved together; else each is when it has ended. The first failure
        breaks off the others: they may have run, and are undone."""
        left = len(effects)
        async with aclosing(as_they_end(effects)) as ended:
            async for outcomes in ended:
                failures = [outcome for outcome in outcomes if outcome.error is not None]
                for outcome in [it for it in outcomes if it.error is None] + failures[:1]:
                    self._ended(saga, run, params, outcome)
                left -= len(outcomes)
                if failures:
                    return
                if left:
                    await self._save(run, patient=True)

    def _ended(self, saga: Saga[Any], run: SagaRun, params: Any, outcome: Outcome) -> None:
        """Records what became of a step."""
        if outcome.error is not None:
            self._failed(saga, run, params, outcome.key, outcome.attempt, outcome.error, outcome.notes)
            return
        (step, item), result = outcome.key, outcome.result
        detail = " ".join(outcome.notes.details)
        succeeded = pb.StepSucceeded(step=step, item=item, attempt=outcome.attempt, detail=detail)
        if isinstance(result, Together):
            self._running[run.id].add(result)
            result = result.result
        if result is not None:
            succeeded.result.Pack(result)
        run.record(succeeded)

    def _failed(
        self, saga: Saga[Any], run: SagaRun, params: Any, key: StepKey, attempt: int, error: CirraError, notes: Notes
    ) -> None:
        log.warning("step failed", saga=saga.name, step=key[0], item=key[1], reason=error.reason, error=str(error))
        if saga.step(key[0]).only_decides and not has_started(run, key, attempt):
            run.record(pb.StepStarted(step=key[0], item=key[1], attempt=attempt))
        if not can_unwind(saga, run, params):
            run.record(_stuck(run, key, error, notes, undoing=False))
            return
        reschedule = isinstance(error, StepError) and error.reschedule and may_restart(saga, run, key)
        cause = reported(error, notes.host)
        run.record(pb.StepFailed(step=key[0], item=key[1], attempt=attempt, error=cause, reschedule=reschedule))

    async def _undo(self, saga: Saga[Any], run: SagaRun, params: Any, key: StepKey, attempt: int) -> None:
        step, notes = saga.step(key[0]), Notes()
        undo = step.undo
        assert undo is not None
        context = context_of(run, params, self._services, key, attempt, notes=notes)
        deadline = Deadline(step.deadline, step.deadline_cap, running=self._bus_up)
        try:
            with observed(saga, step, "undo", key[1]):
                await deadline.run(lambda: with_retries(undo, context, notes, attempts=UNDO_ATTEMPTS))
        except Exception as error:
            log.exception("undo failed: the saga is stuck", saga=saga.name, step=step.name, saga_id=str(run.id))
            run.record(_stuck(run, key, known(error), notes, undoing=True))
            return
        run.record(pb.StepUndone(step=key[0], item=key[1], attempt=attempt))


def _take_back(before: Iterable[tuple[Aggregate, int]]) -> None:
    """What a step has failed at is not saved with what the one before has changed."""
    for aggregate, pending in before:
        del aggregate.pending_events[pending:]


def _stuck(run: SagaRun, key: StepKey, error: CirraError, notes: Notes, *, undoing: bool) -> pb.SagaStuck:
    return pb.SagaStuck(
        step=key[0],
        item=key[1],
        error=reported(error, notes.host),
        undoing=undoing,
        tries=notes.tries,
        target=run.target,
    )
