"""Running one effect of a step: what it is given, how it is repeated and observed, how its failure is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

import structlog
from google.protobuf.message import Message
from opentelemetry import trace

from cirra.operations.v1 import operations_pb2
from core.aggregate import Aggregate
from core.errors import CirraError, DeadlineExceeded, Unavailable
from core.eventlog.connections import is_transient
from core.eventlog.errors import LogUnavailable
from core.metrics import SAGA_STEPS
from core.saga.deadline import Deadline
from core.saga.definition import Opening, Saga, Step, StepContext, StepKey, Together
from core.saga.state import SagaRun

log = structlog.get_logger(__name__)
tracer = trace.get_tracer(__name__)

P = TypeVar("P", bound=Message)

RETRY_FIRST_S, RETRY_LAST_S = 0.1, 5.0
# Steps side by side that end within this are saved together.
SOON_S = 0.02


@dataclass(slots=True)
class Notes:
    """What an effect says of itself while it runs: words for the timeline, the hosts it went to, its passing troubles.

    `tries`: how often it was begun.
    """

    details: list[str] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    troubles: list[CirraError] = field(default_factory=list)
    tries: int = 0

    @property
    def host(self) -> str:
        """The last one; empty for an effect that went to none."""
        return self.hosts[-1] if self.hosts else ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a step's `do`: its result, or why it failed."""

    key: StepKey
    attempt: int
    notes: Notes
    result: Message | Together | None = None
    error: CirraError | None = None


def params_of(saga: Saga[P], run: SagaRun) -> P:
    """The parameters that a run was started with."""
    params = saga.params()
    if not run.params.Unpack(params):
        raise TypeError(f"the parameters of saga {run.id} are {run.params.type_url}, not {saga.params.__name__}")
    return params


def context_of(
    run: SagaRun,
    params: P,
    services: Any,
    key: StepKey,
    attempt: int,
    *,
    failures: tuple[operations_pb2.OperationError, ...] = (),
    touch: Callable[[], None] = lambda: None,
    notes: Notes | None = None,
    since: int = 0,
    unsaved: Mapping[UUID, Aggregate] | None = None,
    opened: Sequence[Aggregate] = (),
) -> StepContext[P]:
    """What an effect of a step is given. `failures`: those beside the run's own."""
    told = notes or Notes()
    return StepContext(
        saga_id=run.id,
        params=params,
        services=services,
        step=key[0],
        item=key[1],
        attempt=attempt,
        results={at: record.result for at, record in run.steps.items() if record.result is not None},
        earlier=tuple(run.earlier),
        error=run.error,
        failures=(*run.failures, *failures),
        touch=touch,
        describe=told.details.append,
        on_host=told.hosts.append,
        since=since,
        unsaved=unsaved or {},
        opened=list(opened),
    )


async def opening_of(opening: Opening[P], context: StepContext[P]) -> tuple[Aggregate, ...]:
    """What a step begins with; nothing where that can't be had now: its `do` will say why, or wait."""
    try:
        return await opening(context)
    except Exception as error:
        log.info("step starts without its opening", step=context.step, item=context.item, error=repr(error))
        return ()


async def outcome_of(saga: Saga[P], context: StepContext[P], deadline: Deadline, notes: Notes) -> Outcome:
    """Runs the `do` of a step until it has succeeded, failed for good, or its deadline has passed."""
    step, key = saga.step(context.step), (context.step, context.item)
    try:
        with observed(saga, step, "do", context.item):
            result = await deadline.run(lambda: with_retries(step.do, context, notes))
    except DeadlineExceeded as error:
        waited_for = f"; last: {notes.troubles[-1]}" if notes.troubles else ""
        return Outcome(key, context.attempt, notes, error=DeadlineExceeded(f"{error}{waited_for}"))
    except Exception as error:
        return Outcome(key, context.attempt, notes, error=known(error))
    return Outcome(key, context.attempt, notes, result)


async def as_they_end(effects: Sequence[Coroutine[Any, Any, Outcome]]) -> AsyncGenerator[list[Outcome], None]:
    """Runs them at the same time, and gives what became of them, those together that end at about the same time.
    Closing it breaks off the others."""
    tasks = [asyncio.create_task(effect) for effect in effects]
    pending = set(tasks)
    try:
        while pending:
            await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait(pending, timeout=SOON_S)
            ended = [task for task in tasks if task in pending and task.done()]
            pending.difference_update(ended)
            yield [task.result() for task in ended]
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


@contextmanager
def observed(saga: Saga[Any], step: Step[Any], direction: str, item: str) -> Iterator[None]:
    """A span and a measurement of one effect."""
    began, outcome = time.monotonic(), "failed"
    try:
        with tracer.start_as_current_span(f"{direction} {step.name}", attributes={"cirra.step_item": item}):
            yield
            outcome = "succeeded"
    finally:
        SAGA_STEPS.labels(saga.name, step.name, direction, outcome).observe(time.monotonic() - began)


async def with_retries(
    effect: Callable[[StepContext[Any]], Awaitable[Any]],
    context: StepContext[Any],
    notes: Notes,
    *,
    attempts: int | None = None,
) -> Any:
    """Repeats an effect that failed for a passing reason, until the deadline ends it (or `attempts` are used up).

    That a part of the cloud is away says nothing of the effect, and takes none of its attempts.
    """
    pause_s = RETRY_FIRST_S
    while True:
        notes.tries += 1
        try:
            return await effect(context)
        except Exception as error:
            trouble = _database_away(error)
            notes.troubles.append(trouble)
            if attempts is not None and not isinstance(trouble, Unavailable):
                attempts -= 1
            if not trouble.retryable or attempts == 0:
                raise
            log.info("step waits and tries again", step=context.step, reason=trouble.reason, error=str(trouble))
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, RETRY_LAST_S)


def _database_away(error: Exception) -> CirraError:
    """What an effect's error is to its saga. Raises what is no passing failure, and no error of ours."""
    if isinstance(error, CirraError):
        return error
    if not is_transient(error):
        raise error
    return LogUnavailable(f"Postgres is away: {error!r}")


def known(error: Exception) -> CirraError:
    """A bug in a step is an error like others for its saga, and a traceback in the log."""
    if isinstance(error, CirraError):
        return error
    log.error("step broke", exc_info=error)
    return CirraError(f"{type(error).__name__}: {error}")


def reported(error: CirraError, host: str = "") -> operations_pb2.OperationError:
    """As it is told in events. `host`: where the effect was at work."""
    return operations_pb2.OperationError(reason=error.reason, message=error.message, remedy=error.remedy, host=host)
