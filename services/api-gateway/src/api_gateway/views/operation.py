"""Operations: the public face of sagas. The log of a saga is its timeline."""

from __future__ import annotations

from api_gateway.views.view import Columns, View
from cirra.operations.v1 import events_pb2 as events
from cirra.operations.v1 import operations_pb2 as pb
from core.eventlog.types import RecordedEvent
from core.ids import last_segment

OPERATION = View(
    "operation",
    pb.Operation,
    columns=lambda operation: Columns(
        project_id=operation.project_id,
        about=last_segment(operation.target),
        display_name=operation.kind,
        state=pb.OperationState.Name(operation.state),
    ),
)
StepEvent = events.StepStarted | events.StepSucceeded | events.StepFailed | events.StepUndone


@OPERATION.on(events.SagaStarted, begins=True)
def _started(operation: pb.Operation, event: RecordedEvent, message: events.SagaStarted) -> None:
    operation.name = f"operations/{operation.uid}"
    operation.kind = message.saga
    operation.target = message.target
    operation.project_id = message.project_id
    operation.state = pb.OPERATION_STATE_RUNNING


@OPERATION.on(events.StepStarted)
def _step_started(operation: pb.Operation, event: RecordedEvent, message: events.StepStarted) -> None:
    _begun(operation, event, message).state = pb.STEP_STATE_RUNNING


def _begun(
    operation: pb.Operation, event: RecordedEvent, message: events.StepStarted | events.StepSucceeded
) -> pb.OperationStep:
    newest = max((step.attempt for step in operation.steps), default=0)
    if message.attempt > newest:
        # Another attempt: what made the last one fail is in its steps.
        operation.state = pb.OPERATION_STATE_RUNNING
        operation.ClearField("error")
    step = _find(operation, message)
    if step is None:
        step = operation.steps.add(step=message.step, item=message.item, attempt=message.attempt)
        step.start_time.FromDatetime(event.recorded_at)
    return step


@OPERATION.on(events.StepSucceeded)
def _step_succeeded(operation: pb.Operation, event: RecordedEvent, message: events.StepSucceeded) -> None:
    step = _begun(operation, event, message)  # that only decides has not begun before
    step.state = pb.STEP_STATE_SUCCEEDED
    step.detail = message.detail
    step.ClearField("error")
    step.end_time.FromDatetime(event.recorded_at)
    _passed(operation, message.step, message.item)


@OPERATION.on(events.StepFailed)
def _step_failed(operation: pb.Operation, event: RecordedEvent, message: events.StepFailed) -> None:
    operation.state = pb.OPERATION_STATE_UNWINDING
    operation.error.CopyFrom(message.error)
    step = _find(operation, message)
    if step is not None:
        step.state = pb.STEP_STATE_FAILED
        step.error.CopyFrom(message.error)
        step.end_time.FromDatetime(event.recorded_at)


@OPERATION.on(events.StepUndone)
def _step_undone(operation: pb.Operation, event: RecordedEvent, message: events.StepUndone) -> None:
    if operation.state == pb.OPERATION_STATE_RUNNING:
        operation.state = pb.OPERATION_STATE_UNWINDING
    step = _find(operation, message)
    if step is not None:
        step.state = pb.STEP_STATE_UNDONE
    _passed(operation, message.step, message.item)


@OPERATION.on(events.SagaCancelRequested)
def _cancel_requested(operation: pb.Operation, event: RecordedEvent, message: events.SagaCancelRequested) -> None:
    """Whether it can still be cancelled is seen by what follows."""


@OPERATION.on(events.SagaCompleted)
def _completed(operation: pb.Operation, event: RecordedEvent, message: events.SagaCompleted) -> None:
    _end(operation, event, pb.OPERATION_STATE_SUCCEEDED)
    operation.ClearField("error")


@OPERATION.on(events.SagaUnwound)
def _unwound(operation: pb.Operation, event: RecordedEvent, message: events.SagaUnwound) -> None:
    _end(operation, event, pb.OPERATION_STATE_FAILED)
    if message.HasField("error"):
        operation.error.CopyFrom(message.error)


@OPERATION.on(events.SagaStuck)
def _stuck(operation: pb.Operation, event: RecordedEvent, message: events.SagaStuck) -> None:
    """Not done: it goes on when a person has it retried, or ends when a person resolves it."""
    operation.state = pb.OPERATION_STATE_STUCK
    if not operation.HasField("error"):  # else that is the cause, which is not forgotten over what came of it
        operation.error.CopyFrom(message.error)
    stuck = operation.stuck
    if (stuck.step, stuck.item, stuck.undoing) != (message.step, message.item, message.undoing):
        operation.ClearField("stuck")
        stuck = operation.stuck
        stuck.step, stuck.item, stuck.undoing = message.step, message.item, message.undoing
        stuck.since.FromDatetime(event.recorded_at)
    stuck.host = message.error.host
    stuck.tries += message.tries
    stuck.error.CopyFrom(message.error)
    step = _newest(operation, message.step, message.item)
    if step is not None:
        step.state = pb.STEP_STATE_STUCK
        step.error.CopyFrom(message.error)


@OPERATION.on(events.SagaRetried)
def _retried(operation: pb.Operation, event: RecordedEvent, message: events.SagaRetried) -> None:
    """Where it stood is kept until it has got beyond: should it stand there again, it is told since when."""
    stuck = operation.stuck
    stuck.retries += 1
    if stuck.undoing:
        operation.state = pb.OPERATION_STATE_UNWINDING
    else:
        operation.state = pb.OPERATION_STATE_RUNNING
        operation.ClearField("error")
    step = _newest(operation, stuck.step, stuck.item)
    if step is not None:
        step.state = pb.STEP_STATE_RUNNING


@OPERATION.on(events.SagaResolved)
def _resolved(operation: pb.Operation, event: RecordedEvent, message: events.SagaResolved) -> None:
    """It failed; a person has given it up."""
    _end(operation, event, pb.OPERATION_STATE_FAILED)
    operation.resolution.reason = message.note
    operation.resolution.user_id = event.actor
    operation.resolution.time.FromDatetime(event.recorded_at)
    operation.resolution.left.extend(message.left)


@OPERATION.on(events.SagaAdopted)
def _adopted(operation: pb.Operation, event: RecordedEvent, message: events.SagaAdopted) -> None:
    """Who runs it is not its user's concern."""


def _end(operation: pb.Operation, event: RecordedEvent, state: pb.OperationState.ValueType) -> None:
    operation.state = state
    operation.ClearField("stuck")
    operation.done = True
    operation.end_time.FromDatetime(event.recorded_at)


def _passed(operation: pb.Operation, step: str, item: str) -> None:
    """The step where it stood is behind it."""
    if (operation.stuck.step, operation.stuck.item) == (step, item):
        operation.ClearField("stuck")


def _newest(operation: pb.Operation, step: str, item: str) -> pb.OperationStep | None:
    return next((found for found in reversed(operation.steps) if (found.step, found.item) == (step, item)), None)


def _find(operation: pb.Operation, message: StepEvent) -> pb.OperationStep | None:
    for step in reversed(operation.steps):
        if (step.step, step.item, step.attempt) == (message.step, message.item, message.attempt):
            return step
    return None
