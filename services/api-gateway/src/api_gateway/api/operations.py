"""OperationService."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from api_gateway.api.call import Call, Servicer
from api_gateway.api.fields import Fields
from api_gateway.api.forward import Prepare, forwarded, named, the_operation
from api_gateway.api.read import getter, lister
from api_gateway.api.watch import watch_operation
from api_gateway.views.operation import OPERATION
from cirra.operations.v1 import operations_pb2 as pb
from cirra.operations.v1 import operations_pb2_grpc
from core.errors import FieldViolation, InvalidArgument
from core.ids import last_segment, parse_uuid


async def _filters(request: pb.ListOperationsRequest, call: Call) -> Mapping[str, str]:
    filters = {}
    if request.target:
        uid = parse_uuid(last_segment(request.target))
        if uid is None:
            raise InvalidArgument(FieldViolation("target", f"{request.target!r} is neither a resource name nor a uid"))
        filters["about"] = str(uid)
    if request.state:
        if request.state not in pb.OperationState.values():
            raise InvalidArgument(FieldViolation("state", f"{request.state} is no state of an operation"))
        filters["state"] = pb.OperationState.Name(request.state)
    return filters


def _intervention(*, reason_required: bool) -> Prepare:
    """The request names one operation, and tells why."""
    by_name = named(OPERATION)

    async def prepare(command: Any, call: Call) -> None:
        fields = Fields()
        fields.reason("reason", command.reason, required=reason_required)
        fields.check()
        await by_name(command, call)

    return prepare


class OperationService(Servicer, operations_pb2_grpc.OperationServiceServicer):
    GetOperation = getter(OPERATION)
    ListOperations = lister(OPERATION, pb.ListOperationsResponse, _filters, newest_first=True)
    RetryOperation = forwarded(
        lambda conductor: conductor.operations.RetryOperation, _intervention(reason_required=False), the_operation
    )
    ResolveOperation = forwarded(
        lambda conductor: conductor.operations.ResolveOperation, _intervention(reason_required=True), the_operation
    )
    CancelOperation = forwarded(
        lambda conductor: conductor.operations.CancelOperation, _intervention(reason_required=False), the_operation
    )

    async def WatchOperation(self, request: pb.WatchOperationRequest, context: Any) -> AsyncIterator[pb.Operation]:
        call = await self.enter(context)
        async for operation in watch_operation(call, request.name, settled_only=request.settled_only):
            yield operation
