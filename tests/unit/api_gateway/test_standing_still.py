"""What the read model tells of an operation that stands still, and of what it is about."""

from __future__ import annotations

from datetime import UTC
from typing import Any
from uuid import UUID, uuid4

from api_gateway.views.fold import Fold
from api_gateway.views.instance import INSTANCE
from api_gateway.views.operation import OPERATION
from api_gateway.views.view import View
from cirra.compute.v1 import compute_pb2 as compute
from cirra.compute.v1 import events_pb2 as compute_events
from cirra.operations.v1 import events_pb2 as saga
from cirra.operations.v1 import operations_pb2 as operations
from tests.unit.api_gateway.history import History


def _resource(history: History, view: View[Any], uid: UUID) -> Any:
    row = Fold().apply_all(history.events).get(view, str(uid))
    assert row is not None
    return row.resource


def _started(history: History) -> UUID:
    uid = uuid4()
    history.add("saga", uid, saga.SagaStarted(saga="instance-create", target="projects/p1/instances/0190"))
    return uid


def test_where_it_stands_is_told_until_it_is_beyond(history: History) -> None:
    """Since the first time, with all tries, whoever had it retried in vain; the cause is not forgotten over it."""
    uid = _started(history)
    cause = operations.OperationError(reason="DISK_FULL", host="h1")
    trouble = operations.OperationError(reason="NO_ANSWER", host="h1")
    stuck = saga.SagaStuck(step="spawn", item="i", undoing=True, error=trouble, tries=6)
    history.add_all(
        "saga", uid, saga.StepStarted(step="spawn", item="i"), saga.StepFailed(step="spawn", item="i", error=cause)
    )
    first = history.add("saga", uid, stuck)
    history.add_all("saga", uid, saga.SagaRetried(note="disk added"), stuck)
    operation = _resource(history, OPERATION, uid)
    since = operations.OperationStuck().since
    since.FromDatetime(first.recorded_at)
    assert operation.stuck == operations.OperationStuck(
        step="spawn", item="i", undoing=True, host="h1", since=since, tries=12, retries=1, error=trouble
    )
    assert (operation.state, operation.error) == (operations.OPERATION_STATE_STUCK, cause)
    assert operation.steps[0].state == operations.STEP_STATE_STUCK
    history.add_all("saga", uid, saga.SagaRetried(), saga.StepUndone(step="spawn", item="i"))
    operation = _resource(history, OPERATION, uid)
    assert not operation.HasField("stuck")
    assert (operation.state, operation.error) == (operations.OPERATION_STATE_UNWINDING, cause)
    assert operation.steps[0].state == operations.STEP_STATE_UNDONE


def test_a_stuck_step_that_goes_forward_again(history: History) -> None:
    uid = _started(history)
    stuck = saga.SagaStuck(step="tell", error=operations.OperationError(reason="X"), tries=1)
    history.add_all("saga", uid, saga.StepStarted(step="tell"), stuck, saga.SagaRetried())
    operation = _resource(history, OPERATION, uid)
    assert operation.state == operations.OPERATION_STATE_RUNNING and not operation.HasField("error")
    assert operation.steps[0].state == operations.STEP_STATE_RUNNING
    history.add_all("saga", uid, saga.StepSucceeded(step="tell"), saga.SagaCompleted())
    operation = _resource(history, OPERATION, uid)
    assert operation.state == operations.OPERATION_STATE_SUCCEEDED
    assert not operation.HasField("stuck") and not operation.steps[0].HasField("error")


def test_a_resolution_tells_who_why_and_what_is_left(history: History) -> None:
    uid = _started(history)
    history.add("saga", uid, saga.SagaStuck(step="spawn"))
    resolved = history.add("saga", uid, saga.SagaResolved(note="host is scrap", left=["h1: a guest"]))
    resolution = _resource(history, OPERATION, uid).resolution
    assert (resolution.reason, resolution.user_id, list(resolution.left)) == ("host is scrap", "u1", ["h1: a guest"])
    assert resolution.time.ToDatetime(UTC) == resolved.recorded_at


def test_a_thing_whose_saga_stands_still_is_in_error_until_that_goes_on(history: History) -> None:
    uid = uuid4()
    history.add("instance", uid, compute_events.InstanceCreated(project_id="p", task_id="t"))
    target = f"projects/p/instances/{uid}"
    trouble = operations.OperationError(reason="NO_ANSWER", message="h1 does not answer")
    stuck = history.add("saga", uuid4(), saga.SagaStuck(step="spawn", undoing=True, error=trouble, target=target))
    instance = _resource(history, INSTANCE, uid)
    assert (instance.status, instance.task_state) == (compute.INSTANCE_STATUS_ERROR, "instance-create")
    assert instance.fault.message == "undoing spawn failed: h1 does not answer (NO_ANSWER)"
    assert str(stuck.aggregate_id) in instance.fault.remedy
    history.add("saga", stuck.aggregate_id, saga.SagaRetried(target=target))
    instance = _resource(history, INSTANCE, uid)
    assert instance.status == compute.INSTANCE_STATUS_BUILD and not instance.HasField("fault")


def test_a_thing_that_its_saga_has_done_with_is_not_in_error(history: History) -> None:
    uid = uuid4()
    history.add("instance", uid, compute_events.InstanceCreated(project_id="p", task_id="t"))
    history.add_all("instance", uid, compute_events.InstanceActivated(), compute_events.InstanceTaskEnded(task_id="t"))
    history.add("saga", uuid4(), saga.SagaStuck(step="activate", target=f"projects/p/instances/{uid}"))
    assert _resource(history, INSTANCE, uid).status == compute.INSTANCE_STATUS_ACTIVE
