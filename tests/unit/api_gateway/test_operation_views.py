"""Operations, from the events of their sagas."""

from __future__ import annotations

from uuid import UUID, uuid4

from api_gateway.views.operation import OPERATION
from cirra.operations.v1 import events_pb2 as saga
from cirra.operations.v1 import operations_pb2 as operations
from tests.unit.api_gateway.history import History, row_of


def _started(history: History) -> UUID:
    uid = uuid4()
    target = "projects/p1/instances/0190"
    history.add("saga", uid, saga.SagaStarted(saga="instance-create", project_id="p1", target=target))
    return uid


def test_steps_that_succeed(history: History) -> None:
    uid = _started(history)
    history.add_all(
        "saga",
        uid,
        saga.StepStarted(step="bind", item="a", attempt=1),
        saga.StepSucceeded(step="bind", item="a", attempt=1, detail="on h1"),
        saga.StepStarted(step="bind", item="b", attempt=1),
    )
    operation = row_of(history, OPERATION, uid).resource
    assert [(step.item, step.state) for step in operation.steps] == [
        ("a", operations.STEP_STATE_SUCCEEDED),
        ("b", operations.STEP_STATE_RUNNING),
    ]
    assert operation.position == 4 and not operation.done
    history.add("saga", uid, saga.SagaCompleted())
    operation = row_of(history, OPERATION, uid).resource
    assert (operation.state, operation.done) == (operations.OPERATION_STATE_SUCCEEDED, True)
    assert OPERATION.columns(operation).about == "0190"


def test_a_step_that_only_decides_takes_no_time(history: History) -> None:
    uid = _started(history)
    history.add("saga", uid, saga.StepSucceeded(step="accept", item="a", attempt=1, detail="taken"))
    [step] = row_of(history, OPERATION, uid).resource.steps
    assert (step.step, step.item, step.attempt, step.detail) == ("accept", "a", 1, "taken")
    assert step.state == operations.STEP_STATE_SUCCEEDED
    assert step.start_time == step.end_time != step.start_time.__class__()


def test_another_attempt_forgets_the_error(history: History) -> None:
    uid = _started(history)
    error = operations.OperationError(reason="HOST_GONE")
    history.add_all(
        "saga",
        uid,
        saga.StepStarted(step="spawn", attempt=1),
        saga.StepFailed(step="spawn", attempt=1, error=error, reschedule=True),
        saga.StepUndone(step="spawn", attempt=1),
    )
    operation = row_of(history, OPERATION, uid).resource
    assert operation.state == operations.OPERATION_STATE_UNWINDING and operation.error == error
    history.add("saga", uid, saga.StepStarted(step="spawn", attempt=2))
    operation = row_of(history, OPERATION, uid).resource
    assert operation.state == operations.OPERATION_STATE_RUNNING and not operation.HasField("error")
    assert [(step.attempt, step.state) for step in operation.steps] == [
        (1, operations.STEP_STATE_UNDONE),
        (2, operations.STEP_STATE_RUNNING),
    ]
    assert operation.steps[0].error == error


def test_ends(history: History) -> None:
    error = operations.OperationError(reason="X", remedy="do y")
    for messages, state, done in (
        ((saga.SagaUnwound(error=error),), operations.OPERATION_STATE_FAILED, True),
        ((saga.SagaStuck(error=error),), operations.OPERATION_STATE_STUCK, False),
        ((saga.SagaStuck(error=error), saga.SagaResolved()), operations.OPERATION_STATE_FAILED, True),
        (
            (saga.StepFailed(error=error), saga.SagaStuck(undoing=True), saga.SagaRetried()),
            operations.OPERATION_STATE_UNWINDING,
            False,
        ),
    ):
        uid = _started(history)
        history.add_all("saga", uid, *messages)
        operation = row_of(history, OPERATION, uid).resource
        assert (operation.state, operation.done) == (state, done)
        assert operation.error == error
