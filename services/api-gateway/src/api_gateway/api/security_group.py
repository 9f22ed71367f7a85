"""SecurityGroupService: what may pass to and from ports. The conductor checks the rules: it has their grammar."""

from __future__ import annotations

from api_gateway.api.call import Call, Servicer
from api_gateway.api.fields import Fields
from api_gateway.api.forward import forwarded, named, nothing, the, updated
from api_gateway.api.read import getter, lister
from api_gateway.views.security_group import SECURITY_GROUP
from cirra.network.v1 import security_group_pb2 as pb
from cirra.network.v1 import security_group_pb2_grpc

# The project's own, which the conductor makes when it is first needed.
DEFAULT = "default"

_name_group = named(SECURITY_GROUP)


async def prepare_groups(fields: Fields, names: list[str], call: Call) -> list[str]:
    """Field `security_groups`: their uids. What is no group of the project is refused in `fields`."""
    return [await _reference(fields, f"security_groups[{index}]", name, call) for index, name in enumerate(names)]


async def _reference(fields: Fields, field: str, name: str, call: Call) -> str:
    if name == DEFAULT:
        return name
    group = await fields.reference(call.reader, SECURITY_GROUP, field, name)
    return group.uid if group else ""


async def _prepare_create(command: pb.CreateSecurityGroupRequest, call: Call) -> None:
    fields = Fields("security_group.")
    fields.title("display_name", command.security_group.display_name)
    for index, rule in enumerate(command.security_group.rules):
        await _prepare_rule(fields, f"rules[{index}].", rule, call)
    fields.check()


async def _prepare_add(command: pb.AddSecurityGroupRuleRequest, call: Call) -> None:
    fields = Fields("rule.")
    await _prepare_rule(fields, "", command.rule, call)
    fields.check()
    if command.name != DEFAULT:
        await _name_group(command, call)


async def _prepare_rule(fields: Fields, prefix: str, rule: pb.SecurityGroupRule, call: Call) -> None:
    if rule.remote_group:
        rule.remote_group = await _reference(fields, f"{prefix}remote_group", rule.remote_group, call)


async def _as_it_is(command: pb.RemoveSecurityGroupRuleRequest, call: Call) -> None:
    """A rule has no view of its own: the conductor knows its group."""


class SecurityGroupService(Servicer, security_group_pb2_grpc.SecurityGroupServiceServicer):
    CreateSecurityGroup = forwarded(
        lambda conductor: conductor.security_groups.CreateSecurityGroup, _prepare_create, the(SECURITY_GROUP)
    )
    GetSecurityGroup = getter(SECURITY_GROUP)
    ListSecurityGroups = lister(SECURITY_GROUP, pb.ListSecurityGroupsResponse)
    UpdateSecurityGroup = forwarded(
        lambda conductor: conductor.security_groups.UpdateSecurityGroup,
        updated(SECURITY_GROUP, "security_group"),
        the(SECURITY_GROUP),
    )
    DeleteSecurityGroup = forwarded(
        lambda conductor: conductor.security_groups.DeleteSecurityGroup,
        _name_group,
        nothing(pb.DeleteSecurityGroupResponse),
    )
    AddSecurityGroupRule = forwarded(
        lambda conductor: conductor.security_groups.AddSecurityGroupRule, _prepare_add, the(SECURITY_GROUP)
    )
    RemoveSecurityGroupRule = forwarded(
        lambda conductor: conductor.security_groups.RemoveSecurityGroupRule, _as_it_is, the(SECURITY_GROUP)
    )
