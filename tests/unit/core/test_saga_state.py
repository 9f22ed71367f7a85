"""The aggregate of a run: what is counted against a step's cap, and who may do what to it. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from cirra.operations.v1 import events_pb2 as pb
from core.errors import FailedPrecondition
from core.saga import SagaRun

BEGIN = datetime(2030, 1, 1, tzinfo=UTC)
KEY = ("spawn", "")


def at(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


def recorded(*events: tuple[float, Any]) -> SagaRun:
    """The run as the log gives it: each event with the seconds of its time, which is Postgres's."""
    saga_id, run = uuid4(), None
    for version, (seconds, message) in enumerate(events, 1):
        event_class = SagaRun.event_classes[message.DESCRIPTOR.full_name]
        event = event_class(originator_id=saga_id, originator_version=version, timestamp=at(seconds), data=message)  # type: ignore[call-arg]
        run = event.mutate(run)
    assert isinstance(run, SagaRun)
    return run


def adopted(runner: str, left_s: float | None) -> pb.SagaAdopted:
    event = pb.SagaAdopted(runner=runner)
    if left_s is not None:
        event.left_time.FromDatetime(at(left_s))
    return event


STARTED = ((0, pb.SagaStarted(saga="make", runner="r1")), (10, pb.StepStarted(step="spawn", attempt=1)))


def test_a_step_that_nobody_has_adopted_has_spent_nothing() -> None:
    assert recorded(*STARTED).steps[KEY].spent == timedelta()


def test_the_time_of_each_earlier_runner_adds_up_and_the_time_between_does_not() -> None:
    run = recorded(*STARTED, (500, adopted("r2", 40)), (900, adopted("r3", 560)))
    # r1 from 10 to 40, nobody until 500, r2 from then to 560, nobody until 900.
    assert run.steps[KEY].spent == timedelta(seconds=30 + 60)
    assert run.runner == "r3"


def test_a_runner_of_whom_nothing_is_known_has_spent_nothing() -> None:
    assert recorded(*STARTED, (500, adopted("r2", None))).steps[KEY].spent == timedelta()


def test_a_runner_that_died_before_it_began_with_the_step_has_spent_nothing() -> None:
    assert recorded(*STARTED, (500, adopted("r2", 5))).steps[KEY].spent == timedelta()


def test_a_retry_begins_anew() -> None:
    run = recorded(
        *STARTED,
        (500, adopted("r2", 40)),
        (600, pb.SagaStuck(step="spawn")),
        (700, pb.SagaRetried()),
        (900, adopted("r3", 720)),
    )
    assert run.steps[KEY].spent == timedelta(seconds=20)


def test_a_retry_by_another_replica_adopts_first() -> None:
    """So that whoever sees the run go on sees who runs it."""
    run = recorded(*STARTED, (20, pb.SagaStuck(step="spawn")))
    run.retry("mended", "r2")
    names = [type(event.data).__name__ for event in run.pending_events]  # type: ignore[attr-defined]
    assert names == ["SagaAdopted", "SagaRetried"]
    again = recorded(*STARTED, (20, pb.SagaStuck(step="spawn")))
    again.retry("mended", "r1")
    assert len(again.pending_events) == 1


@pytest.mark.parametrize("end", [pb.SagaCompleted(), pb.SagaUnwound(), pb.SagaResolved(), pb.StepUndone()])
def test_only_a_stuck_run_is_retried_or_resolved(end: Any) -> None:
    run = recorded(*STARTED, (20, end))
    with pytest.raises(FailedPrecondition) as refusal:
        run.retry("", "r1")
    assert refusal.value.remedy
    with pytest.raises(FailedPrecondition):
        run.resolve("why", [])
    assert not run.pending_events


def test_a_step_that_only_decided_has_begun_when_it_succeeded() -> None:
    run = recorded(STARTED[0], (10, pb.StepSucceeded(step="accept", attempt=1)))
    assert run.steps["accept", ""].succeeded
    assert run.steps["accept", ""].since == at(10)


def test_a_step_that_was_begun_keeps_when() -> None:
    assert recorded(*STARTED, (30, pb.StepSucceeded(step="build", attempt=1))).steps[KEY].since == at(10)


def test_a_step_that_only_decided_begins_another_attempt() -> None:
    failed = pb.StepFailed(step="build", attempt=1, reschedule=True)
    decided = pb.StepSucceeded(step="choose", attempt=1)
    run = recorded(STARTED[0], (5, decided), STARTED[1], (20, failed), (30, pb.StepSucceeded(step="choose", attempt=2)))
    assert (run.attempt, run.unwinding) == (2, False)
    assert list(run.steps) == [KEY, ("choose", "")]
