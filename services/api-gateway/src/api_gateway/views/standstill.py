"""What it means for a thing that the saga at work on it stands still: ERROR, with the cause, until that goes on.

A thing that the saga has not taken yet, or has done with, is as it was.

The thing itself has no event of it: nothing has happened to it, and that is the trouble.
"""

from __future__ import annotations

from api_gateway.views.instance import INSTANCE
from cirra.compute.v1 import compute_pb2 as compute
from cirra.operations.v1 import events_pb2 as events
from core.eventlog.types import RecordedEvent
from core.ids import last_segment

REASON = "OPERATION_STUCK"
_BUILDING = "instance-create"


def _target(event: RecordedEvent, message: events.SagaStuck | events.SagaRetried) -> str:
    return last_segment(message.target)


@INSTANCE.on(events.SagaStuck, of=_target)
def _stuck(instance: compute.Instance, event: RecordedEvent, message: events.SagaStuck) -> None:
    """Its task is still its task: nobody else may begin one."""
    if not instance.task_state:
        return
    error, undoing = message.error, "undoing " if message.undoing else ""
    instance.status = compute.INSTANCE_STATUS_ERROR
    instance.fault.reason = REASON
    instance.fault.message = f"{undoing}{message.step} failed: {error.message} ({error.reason})"
    instance.fault.remedy = f"an administrator has operation {event.aggregate_id} retried, or resolves it"
    instance.fault.time.FromDatetime(event.recorded_at)


@INSTANCE.on(events.SagaRetried, of=_target)
def _retried(instance: compute.Instance, event: RecordedEvent, message: events.SagaRetried) -> None:
    if instance.fault.reason == REASON and instance.task_state == _BUILDING:
        instance.status = compute.INSTANCE_STATUS_BUILD
        instance.ClearField("fault")
