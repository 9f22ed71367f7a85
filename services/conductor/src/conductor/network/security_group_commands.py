"""Commands on security groups."""

from __future__ import annotations

from uuid import UUID

from cirra.conductor.v1 import security_group_commands_pb2_grpc as grpc_api
from cirra.identity.v1.identity_pb2 import Principal
from cirra.network.v1 import security_group_pb2 as pb
from conductor.access import require_owner, require_project
from conductor.fields import Fields, uid
from conductor.network.port_security import ensure_default_group, own_group
from conductor.network.security_group import DEFAULT, RULES, UPDATABLE, SecurityGroup
from conductor.requests import Commands, Done, command, load_live
from conductor.updates import check_etag, check_mask, require_unchanged
from core.errors import NotFound
from core.ids import uuid7
from core.repository import again_on_conflict


class SecurityGroupCommands(Commands, grpc_api.SecurityGroupCommandsServicer):
    @command(SecurityGroup)
    async def CreateSecurityGroup(self, request: pb.CreateSecurityGroupRequest, principal: Principal) -> Done:
        project_id = require_project(principal)
        for index, rule in enumerate(request.security_group.rules):
            await self._name_remote(f"security_group.rules[{index}].remote_group", rule, project_id)
        group = SecurityGroup.create(
            uuid7(),
            request.security_group,
            project_id=project_id,
            default_rules_too=not request.no_default_rules,
        )
        return Done(group, await self.repository.save(group))

    @command(SecurityGroup)
    async def UpdateSecurityGroup(self, request: pb.UpdateSecurityGroupRequest, principal: Principal) -> Done:
        wanted, paths, fields = request.security_group, request.update_mask.paths, Fields()
        check_mask(fields, paths, UPDATABLE)
        check_etag(fields, request.etag)
        fields.check()
        group_id = uid("security_group.name", wanted.name)

        async def once() -> Done:
            group = await load_live(self.repository, SecurityGroup, group_id)
            require_owner(principal, group.project_id, f"security group {group_id}")
            await require_unchanged(self.repository.log, group, request.etag)
            group.update(
                wanted.display_name if "display_name" in paths else group.display_name,
                wanted.description if "description" in paths else group.description,
            )
            return Done(group, await self.repository.save(group))

        return await again_on_conflict(once)

    @command(SecurityGroup)
    async def DeleteSecurityGroup(self, request: pb.DeleteSecurityGroupRequest, principal: Principal) -> Done:
        def delete(group: SecurityGroup) -> None:
            require_owner(principal, group.project_id, f"security group {group.id}")
            group.delete()

        group, saved = await self.repository.change(SecurityGroup, uid("name", request.name), delete)
        return Done(group, saved)

    @command(SecurityGroup)
    async def AddSecurityGroupRule(self, request: pb.AddSecurityGroupRuleRequest, principal: Principal) -> Done:
        rule_id = uuid7()
        if request.name == DEFAULT:
            group_id = UUID(await ensure_default_group(self.repository, require_project(principal)))
        else:
            group_id = uid("name", request.name)
        if request.rule.remote_group:
            project_id = (await load_live(self.repository, SecurityGroup, group_id)).project_id
            await self._name_remote("rule.remote_group", request.rule, project_id)

        def add(group: SecurityGroup) -> None:
            require_owner(principal, group.project_id, f"security group {group.id}")
            group.add_rule(rule_id, request.rule)

        group, saved = await self.repository.change(SecurityGroup, group_id, add)
        return Done(group, saved)

    @command(SecurityGroup)
    async def RemoveSecurityGroupRule(self, request: pb.RemoveSecurityGroupRuleRequest, principal: Principal) -> Done:
        rule_id = str(uid("rule", request.rule))
        group_id = await self.repository.log.unique_owner(RULES, rule_id)
        if group_id is None:
            raise NotFound(
                f"no security group rule {rule_id}", remedy="`cirra security group show` lists a group's rules"
            )

        def remove(group: SecurityGroup) -> None:
            require_owner(principal, group.project_id, f"security group rule {rule_id}")
            group.remove_rule(rule_id)

        group, saved = await self.repository.change(SecurityGroup, UUID(group_id), remove)
        return Done(group, saved)

    async def _name_remote(self, field: str, rule: pb.SecurityGroupRule, project_id: str) -> None:
        """The other end by its uid, which is one of the group's own project. Raises InvalidArgument, NotFound."""
        if rule.remote_group:
            rule.remote_group = str((await own_group(self.repository, field, rule.remote_group, project_id)).id)
