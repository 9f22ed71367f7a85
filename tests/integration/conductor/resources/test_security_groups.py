"""Security groups and the ports in them, on a real log: the default group, who is in use, quotas, updates of ports."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from cirra.conductor.v1.commands_pb2 import Accepted
from cirra.identity.v1 import identity_pb2 as identity
from cirra.identity.v1.identity_pb2 import ROLE_MEMBER
from cirra.network.v1 import network_pb2 as network
from cirra.network.v1 import security_group_pb2 as pb
from conductor.identity.project import Project
from conductor.network.port import Port
from conductor.network.security_group import SecurityGroup
from core.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted
from core.ids import uuid7
from tests.integration.conductor.resources.world import User, World, answers, errors, user

SSH = pb.SecurityGroupRule(direction=pb.TRAFFIC_DIRECTION_INGRESS, protocol="tcp", port_range_min=22, port_range_max=22)


async def make_group(
    world: World, name: str = "web", *rules: pb.SecurityGroupRule, caller: User | None = None
) -> Accepted:
    request = pb.CreateSecurityGroupRequest(security_group=pb.SecurityGroup(display_name=name, rules=rules))
    return await (caller or world.member).call(world.first.security_groups.CreateSecurityGroup, request)


async def delete_group(world: World, name: str) -> Accepted:
    return await world.member.call(
        world.first.security_groups.DeleteSecurityGroup, pb.DeleteSecurityGroupRequest(name=name)
    )


async def update_port(world: World, name: str, *paths: str, **fields: Any) -> Accepted:
    request = network.UpdatePortRequest(port=network.Port(name=name, **fields))
    request.update_mask.paths.extend(paths)
    return await world.member.call(world.first.network.UpdatePort, request)


async def port_of(world: World, accepted: Accepted) -> Port:
    return await world.repository.load(Port, UUID(accepted.uid))


async def group_of(world: World, uid: str) -> SecurityGroup:
    return await world.repository.load(SecurityGroup, UUID(uid))


async def test_a_project_has_one_default_group_however_many_need_it_at_once(world: World) -> None:
    made, _ = await world.make_subnet("10.0.0.0/24")
    assert await world.log.unique_owner("default-security-group", world.project_id) is None
    results = await world.at_once(12, lambda n: world.make_port(made.uid, replica=n))
    assert errors(results) == []
    ports = [await port_of(world, accepted) for accepted in answers(results)]
    [default] = {group for port in ports for group in port.terms.security.group_ids}
    assert await world.log.unique_owner("default-security-group", world.project_id) == default
    group = await group_of(world, default)
    assert (group.is_default, len(group.rules)) == (True, 4)
    assert (await world.log.counter("ports-in-security-group", default)).used == 12
    assert (await world.log.counter("quota/security_groups", world.project_id)).used == 0
    # A request that made it on the way is answered as any other when it comes again.
    first = await world.make_port(made.uid, request_id="again")
    assert (await world.make_port(made.uid, request_id="again")).uid == first.uid


async def test_a_group_stays_while_ports_are_in_it_or_rules_name_it(world: World) -> None:
    made, _ = await world.make_subnet("10.0.0.0/24")
    group = await make_group(world, "web", SSH)
    remote = pb.SecurityGroupRule(direction=pb.TRAFFIC_DIRECTION_INGRESS, remote_group=group.uid)
    other = await make_group(world, "db", remote)
    port = await world.make_port(made.uid, security_groups=[group.name])
    with pytest.raises(FailedPrecondition, match="it has 1 ports") as caught:
        await delete_group(world, group.name)
    assert caught.value.reason == "SECURITY_GROUP_IN_USE"
    await update_port(world, port.name, "security_groups")
    assert (await port_of(world, port)).terms.security.group_ids == ()
    with pytest.raises(FailedPrecondition, match="1 rules of other groups"):
        await delete_group(world, group.name)
    await delete_group(world, other.name)
    await delete_group(world, group.name)
    with pytest.raises(NotFound):
        await world.make_port(made.uid, security_groups=[group.uid])
    assert (await world.log.counter("quota/security_group_rules", world.project_id)).used == 0


async def test_what_a_port_asks_for(world: World) -> None:
    made, _ = await world.make_subnet("10.0.0.0/24")
    group = await make_group(world)
    none = await port_of(world, await world.make_port(made.uid, no_security_groups=True))
    assert (none.terms.security.enabled, none.terms.security.group_ids) == (True, ())
    off = await port_of(world, await world.make_port(made.uid, port_security_enabled=False))
    assert not off.terms.security.enabled
    pairs = [network.AddressPair(ip_address="10.0.0.9/32", mac_address="FA:16:3E:00:00:01")]
    several = await port_of(
        world, await world.make_port(made.uid, security_groups=[group.uid, "default"], allowed_address_pairs=pairs)
    )
    default = await world.log.unique_owner("default-security-group", world.project_id)
    assert several.terms.security.group_ids == (group.uid, default)
    assert several.terms.security.pairs == (
        network.AddressPair(ip_address="10.0.0.9", mac_address="fa:16:3e:00:00:01"),
    )


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"port_security_enabled": False, "security_groups": ["default"]}, "port.security_groups"),
        ({"no_security_groups": True, "security_groups": ["default"]}, "port.no_security_groups"),
        ({"security_groups": ["nothing"]}, r"port.security_groups\[0\]"),
        ({"allowed_address_pairs": [network.AddressPair(ip_address="x")]}, r"port.allowed_address_pairs\[0\]"),
        ({"allowed_address_pairs": [network.AddressPair(ip_address="::/0")]}, "turn port security off"),
        (
            {"allowed_address_pairs": [network.AddressPair(ip_address="10.0.0.9", mac_address="01:00:5e:00:00:01")]},
            "no unicast MAC",
        ),
        ({"allowed_address_pairs": [network.AddressPair(ip_address="10.0.0.9")] * 2}, "given twice"),
        ({"allowed_address_pairs": [network.AddressPair(ip_address=f"10.0.0.{n}") for n in range(11)]}, "at most 10"),
    ],
)
async def test_what_a_port_can_t_ask_for(world: World, fields: dict[str, Any], field: str) -> None:
    made, _ = await world.make_subnet("10.0.0.0/24")
    with pytest.raises(InvalidArgument, match=field):
        await world.make_port(made.uid, **fields)


async def test_port_security_off_and_on_again(world: World) -> None:
    made, _ = await world.make_subnet("10.0.0.0/24")
    group = await make_group(world)
    port = await world.make_port(made.uid, security_groups=[group.uid])
    with pytest.raises(InvalidArgument, match="leave it out"):
        await update_port(world, port.name, "port_security_enabled", port_security_enabled=False, security_groups=["x"])
    await update_port(world, port.name, "port_security_enabled", port_security_enabled=False)
    assert (await port_of(world, port)).terms.security.group_ids == ()
    await delete_group(world, group.name)  # in use no more
    await update_port(world, port.name, "port_security_enabled", port_security_enabled=True)
    default = await world.log.unique_owner("default-security-group", world.project_id)
    assert (await port_of(world, port)).terms.security.group_ids == (default,)
    with pytest.raises(InvalidArgument, match="update_mask"):
        await update_port(world, port.name, "mac_address")


async def test_hosts_of_a_port_are_told_of_its_update(world: World) -> None:
    made, _ = await world.make_subnet("10.0.0.0/24")
    accepted = await world.make_port(made.uid)
    port = await port_of(world, accepted)
    port.bind("h1", network.PORT_BINDING_STATE_ACTIVE, _wish(port))
    await world.repository.save(port)
    group = await make_group(world)
    await update_port(world, accepted.name, "security_groups", security_groups=[group.uid])
    [told] = world.first.told
    assert (told.host, told.generation, list(told.port.security_group_ids)) == ("h1", 2, [group.uid])
    await update_port(world, accepted.name, "security_groups", security_groups=[group.uid])
    assert len(world.first.told) == 1, "nothing has changed"


def _wish(port: Port) -> Any:
    from cirra.agent.v1 import desired_pb2 as agent

    return agent.DesiredObject(
        host="h1", agent="net", kind="port", object_id=str(port.id), port=agent.PortSpec(port_id=str(port.id))
    )


async def test_rules_are_added_and_removed_once_by_those_whose_they_are(world: World) -> None:
    group = await make_group(world)
    request = pb.AddSecurityGroupRuleRequest(name=group.name, rule=SSH, request_id="r1")
    for _ in range(2):
        added = await world.member.call(world.first.security_groups.AddSecurityGroupRule, request)
        assert added.uid == group.uid
    request.request_id = "r2"
    with pytest.raises(AlreadyExists) as caught:
        await world.member.call(world.first.security_groups.AddSecurityGroupRule, request)
    assert caught.value.reason == "DUPLICATE_RULE"
    [*_, rule] = (await group_of(world, group.uid)).rules
    removal = pb.RemoveSecurityGroupRuleRequest(rule=rule)
    stranger = user(str(uuid7()), ROLE_MEMBER)
    with pytest.raises(NotFound):
        await stranger.call(world.first.security_groups.RemoveSecurityGroupRule, removal)
    await world.member.call(world.first.security_groups.RemoveSecurityGroupRule, removal)
    assert rule not in (await group_of(world, group.uid)).rules
    with pytest.raises(NotFound):
        await world.member.call(world.first.security_groups.RemoveSecurityGroupRule, removal)


async def test_another_project_s_group_is_not_there(world: World) -> None:
    made, _ = await world.make_subnet("10.0.0.0/24")
    stranger = user(str(uuid7()), ROLE_MEMBER)
    theirs = await make_group(world, caller=stranger)
    with pytest.raises(NotFound):
        await world.make_port(made.uid, security_groups=[theirs.uid])
    with pytest.raises(NotFound):
        await delete_group(world, theirs.uid)
    remote = pb.SecurityGroupRule(direction=pb.TRAFFIC_DIRECTION_INGRESS, remote_group=theirs.uid)
    with pytest.raises(NotFound):
        await make_group(world, "naming", remote)


async def test_a_rule_of_the_default_group_before_there_is_one(world: World) -> None:
    request = pb.AddSecurityGroupRuleRequest(name="default", rule=SSH)
    added = await world.member.call(world.first.security_groups.AddSecurityGroupRule, request)
    assert added.uid == await world.log.unique_owner("default-security-group", world.project_id)
    assert len((await group_of(world, added.uid)).rules) == 5


async def test_quotas_hold_whatever_happens_at_once(world: World) -> None:
    project = Project.create(uuid7(), "small", limits={"security_groups": 3, "security_group_rules": 7})
    await world.repository.save(project)
    member = user(str(project.id), ROLE_MEMBER)
    results = await world.at_once(100, lambda n: make_group(world, f"g{n}", caller=member))
    assert len(answers(results)) == 3
    assert {getattr(error, "reason", "") for error in errors(results)} == {"QUOTA_EXCEEDED"}
    request = pb.AddSecurityGroupRuleRequest(name=answers(results)[0].name, rule=SSH)
    await member.call(world.first.security_groups.AddSecurityGroupRule, request)
    request.rule.port_range_max = 23
    with pytest.raises(ResourceExhausted, match="security_group_rules"):
        await member.call(world.first.security_groups.AddSecurityGroupRule, request)


async def test_a_project_goes_with_its_default_group_and_with_no_other(world: World) -> None:
    project = Project.create(uuid7(), "going", limits={})
    await world.repository.save(project)
    member = user(str(project.id), ROLE_MEMBER)
    request = pb.AddSecurityGroupRuleRequest(name="default", rule=SSH)
    await member.call(world.first.security_groups.AddSecurityGroupRule, request)
    other = await make_group(world, caller=member)
    deletion = identity.DeleteProjectRequest(name=project.resource_name)
    with pytest.raises(FailedPrecondition, match=f"project {project.id} is in use: 1 security_groups"):
        await world.admin.call(world.first.identity.DeleteProject, deletion)
    await member.call(world.first.security_groups.DeleteSecurityGroup, pb.DeleteSecurityGroupRequest(name=other.name))
    await world.admin.call(world.first.identity.DeleteProject, deletion)
    assert await world.log.unique_owner("default-security-group", str(project.id)) is None
