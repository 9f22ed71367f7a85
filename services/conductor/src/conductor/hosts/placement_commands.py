"""What operators decide of hosts and their aggregates: handed to placement, which owns them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from cirra.conductor.v1 import placement_commands_pb2_grpc
from cirra.conductor.v1.commands_pb2 import Accepted
from cirra.placement.v1 import administration_pb2_grpc
from cirra.placement.v1 import aggregate_pb2 as aggregates
from cirra.placement.v1 import placement_pb2 as hosts
from conductor.access import require_admin
from core.rpc.context import require_principal


class PlacementCommands(placement_commands_pb2_grpc.PlacementCommandsServicer):
    """Each may be repeated: it says what shall be, or makes one thing per request id."""

    def __init__(self, placement: grpc.aio.Channel) -> None:
        self._placement: Any = administration_pb2_grpc.HostAdministrationServiceStub(placement)

    async def UpdateHost(self, request: hosts.UpdateHostRequest, context: Any) -> Accepted:
        return await _handed(self._placement.UpdateHost, request)

    async def CreateAggregate(self, request: aggregates.CreateAggregateRequest, context: Any) -> Accepted:
        return await _handed(self._placement.CreateAggregate, request)

    async def UpdateAggregate(self, request: aggregates.UpdateAggregateRequest, context: Any) -> Accepted:
        return await _handed(self._placement.UpdateAggregate, request)

    async def DeleteAggregate(self, request: aggregates.DeleteAggregateRequest, context: Any) -> Accepted:
        return await _handed(self._placement.DeleteAggregate, request)

    async def AddAggregateHost(self, request: aggregates.AddAggregateHostRequest, context: Any) -> Accepted:
        return await _handed(self._placement.AddAggregateHost, request)

    async def RemoveAggregateHost(self, request: aggregates.RemoveAggregateHostRequest, context: Any) -> Accepted:
        return await _handed(self._placement.RemoveAggregateHost, request)


async def _handed(method: Callable[[Any], Awaitable[Any]], request: Any) -> Accepted:
    """In the name of an administrator, who goes along in the call's metadata. Raises PermissionDenied."""
    require_admin(require_principal())
    written = await method(request)
    return Accepted(uid=written.uid, name=written.name, position=written.position)
