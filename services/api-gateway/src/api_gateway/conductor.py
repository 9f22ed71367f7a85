"""The conductor as the gateway calls it: every command idempotent, so that it may be sent again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from uuid import uuid4

import grpc

from cirra.conductor.v1 import commands_pb2_grpc as grpc_api
from cirra.conductor.v1 import (
    diagnosis_commands_pb2_grpc,
    placement_commands_pb2_grpc,
    router_commands_pb2_grpc,
    security_group_commands_pb2_grpc,
)
from cirra.conductor.v1.operations_pb2_grpc import OperationCommandsStub
from core.errors import CirraError, DeadlineExceeded, Unavailable
from core.rpc.metadata import STATUS_DETAILS, as_mapping
from core.rpc.retry import retried

T = TypeVar("T")

TIMEOUT_S = 10.0
PATIENCE_S = 20.0


class Conductor:
    """Its services, over one channel. The channel adds trace, correlation id and principal."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.identity = grpc_api.IdentityCommandsStub(channel)
        self.compute = grpc_api.ComputeCommandsStub(channel)
        self.image = grpc_api.ImageCommandsStub(channel)
        self.network = grpc_api.NetworkCommandsStub(channel)
        self.routers = router_commands_pb2_grpc.RouterCommandsStub(channel)
        self.floating_ips = router_commands_pb2_grpc.FloatingIpCommandsStub(channel)
        self.diagnosis = diagnosis_commands_pb2_grpc.DiagnosisCommandsStub(channel)
        self.hosts = grpc_api.HostCommandsStub(channel)
        self.placement = placement_commands_pb2_grpc.PlacementCommandsStub(channel)
        self.server_groups = placement_commands_pb2_grpc.ServerGroupCommandsStub(channel)
        self.security_groups = security_group_commands_pb2_grpc.SecurityGroupCommandsStub(channel)
        self.operations = OperationCommandsStub(channel)

    async def ask(self, method: Callable[..., Awaitable[T]], request: Any, *, timeout_s: float = TIMEOUT_S) -> T:
        """Calls one of its methods, again while the conductor can't be reached, for a bounded time.

        A request without a request id is given one: what is sent twice is done once. Raises what the conductor
        raises, and Unavailable when it says nothing at all.
        """
        if hasattr(request, "request_id") and not request.request_id:
            request.request_id = str(uuid4())
        try:
            return await retried(lambda: method(request, timeout=timeout_s), timeout_s=max(PATIENCE_S, timeout_s))
        except (Unavailable, DeadlineExceeded) as error:
            if not _is_silence(error):
                raise
            # gRPC's own words name our addresses, and not the part that is away.
            raise Unavailable(
                "the conductor does not answer: nothing can be changed now",
                remedy="see whether it was done all the same, and try again; an administrator looks at the conductor",
            ) from error


def _is_silence(error: CirraError) -> bool:
    """Does the error come of the connection or of our deadline, and not of the conductor?"""
    cause = error.__cause__
    return isinstance(cause, grpc.aio.AioRpcError) and STATUS_DETAILS not in as_mapping(cause.trailing_metadata())
