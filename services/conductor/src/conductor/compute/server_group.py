"""Server groups: instances to be kept together, or apart. The constraint rows of placement's claims see to it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from cirra.compute.v1 import events_pb2 as pb
from cirra.compute.v1 import server_group_pb2 as public
from cirra.conductor.v1 import placement_commands_pb2_grpc
from cirra.identity.v1.identity_pb2 import Principal
from cirra.placement.v1 import scheduling_pb2 as scheduling
from conductor.access import require_owner, require_project
from conductor.fields import Fields, uid
from conductor.requests import Commands, Done, command, require_live
from core.aggregate import Aggregate, applies
from core.ids import uuid7

MAX_PER_HOST = 1000


class ServerGroup(Aggregate, kind="server_group"):
    project_id: str = ""
    policy: int = public.SERVER_GROUP_POLICY_UNSPECIFIED
    max_servers_per_host: int = 0
    deleted: bool = False

    @property
    def resource_name(self) -> str:
        return f"projects/{self.project_id}/serverGroups/{self.id}"

    @property
    def rule(self) -> scheduling.GroupRule:
        """As placement needs it: the policies of both have the same numbers."""
        policy: Any = self.policy
        return scheduling.GroupRule(
            group_id=str(self.id), policy=policy, max_servers_per_host=self.max_servers_per_host
        )

    @classmethod
    def create(cls, group_id: UUID, wanted: public.ServerGroup, *, project_id: str, user_id: str) -> ServerGroup:
        """Raises InvalidArgument."""
        _check(wanted)
        group = cls.new(group_id)
        group.record(
            pb.ServerGroupCreated(
                project_id=project_id,
                user_id=user_id,
                display_name=wanted.display_name,
                policy=wanted.policy,
                max_servers_per_host=wanted.max_servers_per_host,
            )
        )
        return group

    def delete(self) -> None:
        """Its members stay as they are. Raises NotFound when deleted."""
        require_live(self).record(pb.ServerGroupDeleted(project_id=self.project_id))

    @applies(pb.ServerGroupCreated)
    def _created(self, event: pb.ServerGroupCreated) -> None:
        self.project_id, self.policy = event.project_id, event.policy
        self.max_servers_per_host = event.max_servers_per_host

    @applies(pb.ServerGroupDeleted)
    def _deleted(self, event: pb.ServerGroupDeleted) -> None:
        self.deleted = True


def _check(wanted: public.ServerGroup) -> None:
    fields = Fields("server_group.")
    fields.title("display_name", wanted.display_name)
    policies = public.ServerGroupPolicy.values()
    if wanted.policy not in policies or wanted.policy == public.SERVER_GROUP_POLICY_UNSPECIFIED:
        fields.refuse("policy", "give AFFINITY, ANTI_AFFINITY, SOFT_AFFINITY or SOFT_ANTI_AFFINITY")
    fields.between("max_servers_per_host", wanted.max_servers_per_host, 0, MAX_PER_HOST)
    if wanted.max_servers_per_host and wanted.policy != public.SERVER_GROUP_POLICY_ANTI_AFFINITY:
        fields.refuse("max_servers_per_host", "only a group with policy ANTI_AFFINITY has it: leave it out")
    fields.check()


class ServerGroupCommands(Commands, placement_commands_pb2_grpc.ServerGroupCommandsServicer):
    @command(ServerGroup)
    async def CreateServerGroup(self, request: public.CreateServerGroupRequest, principal: Principal) -> Done:
        project_id = require_project(principal)
        group = ServerGroup.create(uuid7(), request.server_group, project_id=project_id, user_id=principal.user_id)
        return Done(group, await self.repository.save(group))

    @command(ServerGroup)
    async def DeleteServerGroup(self, request: public.DeleteServerGroupRequest, principal: Principal) -> Done:
        def delete(group: ServerGroup) -> None:
            require_owner(principal, group.project_id, f"server group {group.id}")
            group.delete()

        group, saved = await self.repository.change(ServerGroup, uid("name", request.name), delete)
        return Done(group, saved)
