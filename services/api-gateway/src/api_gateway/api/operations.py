"""OperationService."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from api_gateway.api.call import Call, Servicer
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


class OperationService(Servicer, operations_pb2_grpc.OperationServiceServicer):
    GetOperation = getter(OPERATION)
    ListOperations = lister(OPERATION, pb.ListOperationsResponse, _filters)

    async def WatchOperation(self, request: pb.WatchOperationRequest, context: Any) -> AsyncIterator[pb.Operation]:
        call = await self.enter(context)
        async for operation in watch_operation(call, request.name):
            yield operation
