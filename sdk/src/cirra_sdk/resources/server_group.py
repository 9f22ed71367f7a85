"""Server groups: instances that are to be kept together, or apart."""

from __future__ import annotations

from types import ModuleType
from typing import ClassVar

from cirra.compute.v1 import server_group_pb2 as pb
from cirra.compute.v1.server_group_pb2_grpc import ServerGroupServiceStub
from cirra_sdk.resources.collection import Collection, request_id_or_new


class ServerGroups(Collection[pb.ServerGroup]):
    """Instances join one when they are created (`instances.create(…, server_group=…)`)."""

    messages: ClassVar[ModuleType] = pb
    stub_class = ServerGroupServiceStub
    kind = "ServerGroup"

    async def create(
        self,
        display_name: str,
        policy: pb.ServerGroupPolicy.ValueType,
        *,
        max_servers_per_host: int = 0,
        request_id: str | None = None,
    ) -> pb.ServerGroup:
        """An empty one. *max_servers_per_host*: with anti-affinity, how many one host may have; 0: one."""
        group = pb.ServerGroup(display_name=display_name, policy=policy, max_servers_per_host=max_servers_per_host)
        made: pb.ServerGroup = await self._call(
            "CreateServerGroup", server_group=group, request_id=request_id_or_new(request_id)
        )
        return made
