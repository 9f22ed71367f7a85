"""The aggregate behind a run of a saga. It knows what happened, not what comes next: that is `plan`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import Enum

from google.protobuf.any_pb2 import Any as AnyMessage

from cirra.operations.v1 import events_pb2 as pb
from cirra.operations.v1 import operations_pb2
from core.aggregate import Aggregate, applies
from core.errors import FailedPrecondition
from core.saga.definition import StepKey


class SagaStatus(Enum):
    RUNNING = "running"
    STUCK = "stuck"
    COMPLETED = "completed"
    UNWOUND = "unwound"
    RESOLVED = "resolved"

    @property
    def ended(self) -> bool:
        return self in (SagaStatus.COMPLETED, SagaStatus.UNWOUND, SagaStatus.RESOLVED)


@dataclass(frozen=True, slots=True)
class StepRecord:
    """A step that may have run: `result` is set once it has succeeded.

    `since`: when its present runner began with it; `spent`: how long those before were at it. Both in Postgres's time.
    """

    attempt: int
    since: datetime
    succeeded: bool = False
    result: AnyMessage | None = None
    spent: timedelta = timedelta()


class SagaRun(Aggregate, kind="saga"):
    """One run. `steps` holds what may have run and was not undone, in the order of the starts."""

    saga: str = ""
    target: str = ""
    project_id: str = ""
    runner: str = ""
    traceparent: str = ""
    correlation_id: str = ""
    actor: str = ""
    params: AnyMessage = field(default_factory=AnyMessage)
    status: SagaStatus = SagaStatus.RUNNING
    attempt: int = 1
    steps: dict[StepKey, StepRecord] = field(default_factory=dict)
    earlier: list[tuple[StepKey, AnyMessage]] = field(default_factory=list)
    error: operations_pb2.OperationError | None = None
    failures: list[operations_pb2.OperationError] = field(default_factory=list)
    rescheduling: bool = False
    cancelled: bool = False
    cancel_reason: str = ""
    # Where it stood still last.
    stuck: pb.SagaStuck | None = None

    @property
    def resource_name(self) -> str:
        return f"operations/{self.id}"

    @property
    def unwinding(self) -> bool:
        return self.error is not None

    @applies(pb.SagaStarted)
    def _started(self, event: pb.SagaStarted) -> None:
        self.saga, self.target, self.project_id = event.saga, event.target, event.project_id
        self.runner, self.params = event.runner, event.params
        self.traceparent, self.correlation_id, self.actor = (
            event.traceparent,
            event.correlation_id,
            event.actor,
        )

    @applies(pb.StepStarted)
    def _step_started(self, event: pb.StepStarted) -> None:
        self._begun(event)

    def _begun(self, event: pb.StepStarted | pb.StepSucceeded) -> None:
        if event.attempt > self.attempt:
            self.attempt, self.error, self.rescheduling = event.attempt, None, False
        key = (event.step, event.item)
        self.steps.pop(key, None)
        self.steps[key] = StepRecord(event.attempt, self.event_time)

    @applies(pb.StepSucceeded)
    def _step_succeeded(self, event: pb.StepSucceeded) -> None:
        key = (event.step, event.item)
        record = self.steps.get(key)
        if record is None or record.attempt != event.attempt:  # one that only decides: begun and over at once
            self._begun(event)
        self.steps[key] = StepRecord(event.attempt, self.steps[key].since, True, event.result)

    @applies(pb.StepFailed)
    def _step_failed(self, event: pb.StepFailed) -> None:
        self.error = event.error
        self.failures.append(event.error)
        self.rescheduling = event.reschedule

    @applies(pb.StepUndone)
    def _step_undone(self, event: pb.StepUndone) -> None:
        record = self.steps.pop((event.step, event.item), None)
        if record is not None and record.result is not None:
            self.earlier.append(((event.step, event.item), record.result))

    @applies(pb.SagaCancelRequested)
    def _cancel_requested(self, event: pb.SagaCancelRequested) -> None:
        self.cancelled, self.cancel_reason = True, event.reason

    @applies(pb.SagaCompleted)
    def _completed(self, event: pb.SagaCompleted) -> None:
        self.status = SagaStatus.COMPLETED

    @applies(pb.SagaUnwound)
    def _unwound(self, event: pb.SagaUnwound) -> None:
        self.status = SagaStatus.UNWOUND

    @applies(pb.SagaStuck)
    def _stuck(self, event: pb.SagaStuck) -> None:
        self.status, self.stuck = SagaStatus.STUCK, event

    @applies(pb.SagaRetried)
    def _retried(self, event: pb.SagaRetried) -> None:
        self.status = SagaStatus.RUNNING
        for key, record in self.steps.items():
            self.steps[key] = replace(record, since=self.event_time, spent=timedelta())

    @applies(pb.SagaResolved)
    def _resolved(self, event: pb.SagaResolved) -> None:
        self.status = SagaStatus.RESOLVED

    @applies(pb.SagaAdopted)
    def _adopted(self, event: pb.SagaAdopted) -> None:
        left = event.left_time.ToDatetime(UTC) if event.HasField("left_time") else None
        for key, record in self.steps.items():
            spent = max(timedelta(), left - record.since) if left is not None else timedelta()
            self.steps[key] = replace(record, since=self.event_time, spent=record.spent + spent)
        self.runner = event.runner

    # --- decisions

    def adopt(self, runner: str, left_at: datetime | None = None) -> None:
        """Another replica goes on with it. `left_at`: until when the earlier one lived, where that is known."""
        adopted = pb.SagaAdopted(runner=runner)
        if left_at is not None:
            adopted.left_time.FromDatetime(left_at)
        self.record(adopted)

    def request_cancel(self, reason: str) -> None:
        """Asks the runner to unwind; a saga past its pivot, or ended, goes on as it is."""
        if not self.cancelled and not self.status.ended:
            self.record(pb.SagaCancelRequested(reason=reason))

    def retry(self, reason: str, runner: str) -> None:
        """A person has a stuck run go on where it stands, with this runner. Raises FailedPrecondition unless stuck."""
        self.require_stuck("retried")
        if self.runner != runner:
            # First: whoever sees it run again sees who runs it.
            self.adopt(runner)
        self.record(pb.SagaRetried(note=reason, target=self.target))

    def resolve(self, reason: str, left: Sequence[str]) -> None:
        """A person ends a stuck run; `left`: what is to be seen to by hand. Raises FailedPrecondition unless stuck."""
        self.require_stuck("resolved")
        self.record(pb.SagaResolved(note=reason, left=left))

    def require_stuck(self, to_be: str) -> None:
        """Raises FailedPrecondition unless it is. `to_be`: what only a stuck run can be."""
        if self.status is SagaStatus.STUCK:
            return
        ended = self.status.ended
        remedy = "nothing is left to do: it has ended" if ended else f"it goes on by itself: watch operation {self.id}"
        raise FailedPrecondition(
            f"operation {self.id} ({self.saga}) is {self.status.value}: only a stuck one is {to_be}",
            reason="OPERATION_NOT_STUCK",
            remedy=remedy,
            metadata={"state": self.status.value},
        )
