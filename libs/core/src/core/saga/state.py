"""The aggregate behind a run of a saga. It knows what happened, not what comes next: that is `plan`."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from google.protobuf.any_pb2 import Any as AnyMessage

from cirra.operations.v1 import events_pb2 as pb
from cirra.operations.v1 import operations_pb2
from core.aggregate import Aggregate, applies
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
    """A step that may have run: `result` is set once it has succeeded."""

    attempt: int
    started_at: datetime
    succeeded: bool = False
    result: AnyMessage | None = None


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
        if event.attempt > self.attempt:
            self.attempt, self.error, self.rescheduling = event.attempt, None, False
        key = (event.step, event.item)
        self.steps.pop(key, None)
        self.steps[key] = StepRecord(event.attempt, self.event_time)

    @applies(pb.StepSucceeded)
    def _step_succeeded(self, event: pb.StepSucceeded) -> None:
        key = (event.step, event.item)
        started = self.steps[key].started_at
        self.steps[key] = StepRecord(event.attempt, started, True, event.result)

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
        self.cancelled = True

    @applies(pb.SagaCompleted)
    def _completed(self, event: pb.SagaCompleted) -> None:
        self.status = SagaStatus.COMPLETED

    @applies(pb.SagaUnwound)
    def _unwound(self, event: pb.SagaUnwound) -> None:
        self.status = SagaStatus.UNWOUND

    @applies(pb.SagaStuck)
    def _stuck(self, event: pb.SagaStuck) -> None:
        self.status = SagaStatus.STUCK

    @applies(pb.SagaRetried)
    def _retried(self, event: pb.SagaRetried) -> None:
        self.status = SagaStatus.RUNNING

    @applies(pb.SagaResolved)
    def _resolved(self, event: pb.SagaResolved) -> None:
        self.status = SagaStatus.RESOLVED

    @applies(pb.SagaAdopted)
    def _adopted(self, event: pb.SagaAdopted) -> None:
        self.runner = event.runner

    def request_cancel(self, reason: str) -> None:
        """Asks the runner to unwind; a saga past its pivot, or ended, goes on as it is."""
        if not self.cancelled and not self.status.ended:
            self.record(pb.SagaCancelRequested(reason=reason))
