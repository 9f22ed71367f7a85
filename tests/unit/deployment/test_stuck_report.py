"""What `status` tells of an operation that stands still."""

from __future__ import annotations

from cirra.operations.v1.operations_pb2 import Operation, OperationError, OperationStuck
from deployment.report import stuck_row


def test_which_where_and_why() -> None:
    error = OperationError(reason="DISK_BUSY", message="the disk is held")
    stuck = OperationStuck(step="spawn", undoing=True, host="host-1", error=error)
    stuck.since.FromJsonString("2030-01-01T00:00:00Z")
    uid, kind, step, host, since, why = stuck_row(Operation(uid="o1", kind="instance-create", stuck=stuck))
    assert (uid, kind, step, host, why) == ("o1", "instance-create", "undo of spawn", "host-1", "the disk is held")
    assert since.startswith(("2029-12-31", "2030-01-01"))
