"""What comes next in a run: a pure function of the definition and what happened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf.message import Message

from core.saga.definition import Saga, StepKey
from core.saga.state import SagaRun, SagaStatus

P = TypeVar("P", bound=Message)


@dataclass(frozen=True, slots=True)
class DoStep:
    key: StepKey
    attempt: int
    # StepStarted is in the log already: the step may have run.
    started: bool


@dataclass(frozen=True, slots=True)
class UndoStep:
    key: StepKey
    attempt: int


@dataclass(frozen=True, slots=True)
class Complete:
    pass


@dataclass(frozen=True, slots=True)
class Unwind:
    """Everything is undone: the saga ends."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """A cancel was asked for and the pivot is not reached: unwind."""


Action = DoStep | UndoStep | Complete | Unwind | Cancel


def next_action(saga: Saga[P], run: SagaRun, params: P) -> Action | None:
    """The next thing to do; None when the run has ended or waits for a person."""
    if run.status is not SagaStatus.RUNNING:
        return None
    if run.unwinding:
        return _backward(saga, run, params)
    if run.cancelled and can_unwind(saga, run, params):
        return Cancel()
    return _forward(saga, run, params, run.attempt)


def side_by_side(saga: Saga[P], run: SagaRun, params: P, first: DoStep) -> list[DoStep]:
    """The step that comes next, and those after it that may run at the same time (`Step.beside`)."""
    together = [first]
    keys = saga.keys(params)
    for key in keys[keys.index(first.key) + 1 :]:
        beside = saga.step(key[0]).beside
        if not beside or saga.position(beside) > saga.position(first.key[0]):
            break
        if not _succeeded(saga, run, key, first.attempt):
            together.append(_do(run, key, first.attempt))
    return together


def can_unwind(saga: Saga[P], run: SagaRun, params: P) -> bool:
    """Before the pivot a saga compensates; after it, it only goes forward."""
    if saga.forward_only:
        return False
    pivots = [key for key in saga.keys(params) if saga.step(key[0]).pivot]
    return not pivots or not all(_succeeded(saga, run, key, run.attempt) for key in pivots)


def has_started(run: SagaRun, key: StepKey, attempt: int) -> bool:
    """Whether the log says that it has: it may have run."""
    record = run.steps.get(key)
    return record is not None and record.attempt == attempt


def may_restart(saga: Saga[P], run: SagaRun, key: StepKey) -> bool:
    """Whether a failure at this step may be followed by another attempt."""
    if not saga.restart_from or run.attempt >= saga.max_attempts or run.cancelled:
        return False
    return saga.position(key[0]) >= saga.position(saga.restart_from)


def _forward(saga: Saga[P], run: SagaRun, params: P, attempt: int) -> Action:
    for key in saga.keys(params):
        if not _succeeded(saga, run, key, attempt):
            return _do(run, key, attempt)
    return Complete()


def _do(run: SagaRun, key: StepKey, attempt: int) -> DoStep:
    return DoStep(key, attempt, has_started(run, key, attempt))


def _backward(saga: Saga[P], run: SagaRun, params: P) -> Action:
    restart = run.rescheduling and not run.cancelled
    floor = saga.position(saga.restart_from) if restart else 0
    for key in reversed(run.steps):
        step: Any = saga.step(key[0])
        if saga.position(step.name) >= floor and step.undo is not None:
            return UndoStep(key, run.steps[key].attempt)
    return _forward(saga, run, params, run.attempt + 1) if restart else Unwind()


def _succeeded(saga: Saga[P], run: SagaRun, key: StepKey, attempt: int) -> bool:
    record = run.steps.get(key)
    if record is None or not record.succeeded:
        return False
    repeats = bool(saga.restart_from) and saga.position(key[0]) >= saga.position(saga.restart_from)
    return record.attempt == attempt if repeats else True
