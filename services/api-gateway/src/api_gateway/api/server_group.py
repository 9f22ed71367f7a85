"""ServerGroupService: instances that are to be kept together, or apart."""

from __future__ import annotations

from api_gateway.api.call import Call, Servicer
from api_gateway.api.fields import Fields
from api_gateway.api.forward import forwarded, named, nothing, the
from api_gateway.api.read import getter, lister
from api_gateway.views.server_group import SERVER_GROUP
from cirra.compute.v1 import server_group_pb2 as pb
from cirra.compute.v1 import server_group_pb2_grpc


async def _prepare(command: pb.CreateServerGroupRequest, call: Call) -> None:
    fields = Fields("server_group.")
    fields.title("display_name", command.server_group.display_name)
    if command.server_group.policy == pb.SERVER_GROUP_POLICY_UNSPECIFIED:
        fields.refuse("policy", "give AFFINITY, ANTI_AFFINITY, SOFT_AFFINITY or SOFT_ANTI_AFFINITY")
    fields.check()


class ServerGroupService(Servicer, server_group_pb2_grpc.ServerGroupServiceServicer):
    CreateServerGroup = forwarded(
        lambda conductor: conductor.server_groups.CreateServerGroup, _prepare, the(SERVER_GROUP)
    )
    GetServerGroup = getter(SERVER_GROUP)
    ListServerGroups = lister(SERVER_GROUP, pb.ListServerGroupsResponse)
    DeleteServerGroup = forwarded(
        lambda conductor: conductor.server_groups.DeleteServerGroup,
        named(SERVER_GROUP),
        nothing(pb.DeleteServerGroupResponse),
    )
