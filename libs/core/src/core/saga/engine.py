"""Runs sagas. A run belongs to one replica at a time, by name, in the log; racing replicas meet in its version.

StepStarted is in the log before the effect; a step's success is saved together with the next step's start. A runner
that loses an append reloads, and stops if the run is another's now.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from opentelemetry import trace

from cirra.operations.v1 import events_pb2 as pb
from cirra.operations.v1 import operations_pb2
from core.context import acting, current_context
from core.errors import CirraError, DeadlineExceeded
from core.eventlog.errors import VersionConflict
from core.metrics import SAGA_STEPS, SAGAS, SAGAS_RUNNING
from core.repository import Repository
from core.saga.deadline import Deadline
from core.saga.definition import Saga, Step, StepContext, StepError, StepKey
from core.saga.plan import Cancel, Complete, DoStep, UndoStep, Unwind, can_unwind, may_restart, next_action
from core.saga.state import SagaRun
from core.telemetry import extract

log = structlog.get_logger(__name__)
tracer = trace.get_tracer(__name__)

UNDO_ATTEMPTS = 6
RETRY_FIRST_S, RETRY_LAST_S = 0.1, 5.0


class OrphanedRuns(Protocol):
    """Where to find runs whose runner fell silent."""

    async def orphaned(self) -> Iterable[UUID]: ...


class _Interrupted(Exception):
    """A cancel request is in the log: reload, and see."""


@dataclass(slots=True)
class _Running:
    """A run that this replica is at work on; `effect` is the step's code while it runs."""

    task: asyncio.Task[None]
    effect: asyncio.Task[Any] | None = None


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
        self._running: dict[UUID, _Running] = {}

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
        return run

    def launch(self, saga_id: UUID) -> None:
        """Goes on with a run of ours, in the background. Launching twice is one run."""
        if saga_id in self._running:
            return
        task = asyncio.create_task(self._run(saga_id), name=f"saga-{saga_id}")
        self._running[saga_id] = _Running(task)
        task.add_done_callback(lambda done: self._finished(saga_id, done))

    def _finished(self, saga_id: UUID, task: asyncio.Task[None]) -> None:
        self._running.pop(saga_id, None)
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
        for saga_id in await orphans.orphaned():
            if saga_id in self._running:
                continue
            run = await self._repository.find(SagaRun, saga_id)
            if run is None or run.status.ended:
                continue
            try:
                if run.runner != self._runner:
                    run.record(pb.SagaAdopted(runner=self._runner))
                    await self._repository.save(run)
            except VersionConflict:
                continue  # another replica was first, or the runner is alive after all
            self.launch(saga_id)
            adopted += 1
        return adopted

    async def _run(self, saga_id: UUID) -> None:
        run = await self._repository.load(SagaRun, saga_id)
        saga = self._sagas[run.saga]
        params = saga.params()
        run.params.Unpack(params)
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
                except (VersionConflict, _Interrupted):
                    run = await self._repository.load(SagaRun, saga_id)
            log.info("run is another replica's now", saga_id=str(saga_id), runner=run.runner)

    async def _advance(self, saga: Saga[Any], run: SagaRun, params: Any) -> bool:
        """One action; False when there is nothing more to do here."""
        match next_action(saga, run, params):
            case DoStep(key, attempt, started):
                if not started:
                    run.record(pb.StepStarted(step=key[0], item=key[1], attempt=attempt))
                await self._repository.save(run)
                await self._do(saga, run, params, key, attempt)
            case UndoStep(key, attempt):
                await self._repository.save(run)
                await self._undo(saga, run, params, key, attempt)
            case Cancel():
                error = operations_pb2.OperationError(reason="CANCELLED", message="cancelled on request")
                run.record(pb.StepFailed(error=error))
            case Complete():
                run.record(pb.SagaCompleted())
            case Unwind():
                run.record(pb.SagaUnwound(error=run.error))
            case None:  # it has ended, or a person is needed
                await self._repository.save(run)
                SAGAS.labels(saga.name, run.status.value).inc()
                return False
        return True

    async def _do(self, saga: Saga[Any], run: SagaRun, params: Any, key: StepKey, attempt: int) -> None:
        """Runs a step's effect and records its outcome (saved with what comes next)."""
        step = saga.step(key[0])
        detail: list[str] = []
        troubles: list[CirraError] = []
        deadline = Deadline(step.deadline, step.deadline_cap, running=self._bus_up)
        context = self._context(run, params, key, attempt, touch=deadline.touch, describe=detail.append)
        try:
            with _observed(saga, step, "do", key[1]):
                result = await self._interruptible(run.id, deadline.run(_with_retries(step.do, context, troubles)))
        except _Interrupted:
            raise
        except DeadlineExceeded as error:
            waited_for = f"; last: {troubles[-1]}" if troubles else ""
            self._failed(saga, run, params, key, attempt, DeadlineExceeded(f"{error}{waited_for}"))
            return
        except Exception as error:
            self._failed(saga, run, params, key, attempt, _known(error))
            return
        succeeded = pb.StepSucceeded(step=key[0], item=key[1], attempt=attempt, detail=" ".join(detail))
        if result is not None:
            succeeded.result.Pack(result)
        run.record(succeeded)

    async def _interruptible(self, saga_id: UUID, effect: Awaitable[Message | None]) -> Message | None:
        """Awaits an effect that a cancel request may break off."""
        task = asyncio.ensure_future(effect)
        running = self._running[saga_id]
        running.effect = task
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.cancelled():  # the engine stops: leave the step where it is
                task.cancel()
                await asyncio.wait({task})
                raise
            raise _Interrupted from None
        finally:
            running.effect = None

    def _failed(
        self, saga: Saga[Any], run: SagaRun, params: Any, key: StepKey, attempt: int, error: CirraError
    ) -> None:
        reported = _reported(error)
        log.warning("step failed", saga=saga.name, step=key[0], item=key[1], reason=error.reason, error=str(error))
        if not can_unwind(saga, run, params):
            run.record(pb.SagaStuck(step=key[0], item=key[1], error=reported))
            return
        reschedule = isinstance(error, StepError) and error.reschedule and may_restart(saga, run, key)
        failed = pb.StepFailed(step=key[0], item=key[1], attempt=attempt, error=reported, reschedule=reschedule)
        run.record(failed)

    async def _undo(self, saga: Saga[Any], run: SagaRun, params: Any, key: StepKey, attempt: int) -> None:
        step = saga.step(key[0])
        assert step.undo is not None
        context = self._context(run, params, key, attempt)
        deadline = Deadline(step.deadline, step.deadline_cap, running=self._bus_up)
        try:
            with _observed(saga, step, "undo", key[1]):
                await deadline.run(_with_retries(step.undo, context, [], attempts=UNDO_ATTEMPTS))
        except Exception as error:
            log.exception("undo failed: the saga is stuck", saga=saga.name, step=step.name, saga_id=str(run.id))
            run.record(pb.SagaStuck(step=key[0], item=key[1], error=_reported(_known(error))))
            return
        run.record(pb.StepUndone(step=key[0], item=key[1], attempt=attempt))

    def _context(
        self,
        run: SagaRun,
        params: Any,
        key: StepKey,
        attempt: int,
        *,
        touch: Callable[[], None] = lambda: None,
        describe: Callable[[str], None] = lambda text: None,
    ) -> StepContext[Any]:
        return StepContext(
            saga_id=run.id,
            params=params,
            services=self._services,
            step=key[0],
            item=key[1],
            attempt=attempt,
            results={at: record.result for at, record in run.steps.items() if record.result is not None},
            earlier=tuple(run.earlier),
            error=run.error,
            failures=tuple(run.failures),
            touch=touch,
            describe=describe,
        )


@contextmanager
def _observed(saga: Saga[Any], step: Step[Any], direction: str, item: str) -> Iterator[None]:
    """A span and a measurement of one effect."""
    began, outcome = time.monotonic(), "failed"
    try:
        with tracer.start_as_current_span(f"{direction} {step.name}", attributes={"cirra.step_item": item}):
            yield
            outcome = "succeeded"
    finally:
        SAGA_STEPS.labels(saga.name, step.name, direction, outcome).observe(time.monotonic() - began)


async def _with_retries(
    effect: Callable[[StepContext[Any]], Awaitable[Any]],
    context: StepContext[Any],
    troubles: list[CirraError],
    *,
    attempts: int | None = None,
) -> Any:
    """Repeats an effect that failed for a passing reason, until the deadline ends it (or `attempts` are used up).

    `troubles` gets each failure.
    """
    pause_s = RETRY_FIRST_S
    while True:
        try:
            return await effect(context)
        except CirraError as error:
            troubles.append(error)
            if not error.retryable or len(troubles) == attempts:
                raise
            log.info("step waits and tries again", step=context.step, reason=error.reason, error=str(error))
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, RETRY_LAST_S)


def _known(error: Exception) -> CirraError:
    """A bug in a step is an error like others for its saga, and a traceback in the log."""
    if isinstance(error, CirraError):
        return error
    log.error("step broke", exc_info=error)
    return CirraError(f"{type(error).__name__}: {error}")


def _reported(error: CirraError) -> operations_pb2.OperationError:
    return operations_pb2.OperationError(reason=error.reason, message=error.message, remedy=error.remedy)
