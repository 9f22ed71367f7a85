"""Server groups, and where an instance is asked to be."""

from __future__ import annotations

import pytest

from cirra.compute.v1 import server_group_pb2 as public
from cirra.placement.v1 import scheduling_pb2 as scheduling
from conductor.compute.server_group import ServerGroup
from core.errors import InvalidArgument, NotFound
from core.ids import uuid7


def group(policy: public.ServerGroupPolicy.ValueType, *, most: int = 0, name: str = "web") -> ServerGroup:
    wanted = public.ServerGroup(display_name=name, policy=policy, max_servers_per_host=most)
    return ServerGroup.create(uuid7(), wanted, project_id="p", user_id="u")


@pytest.mark.parametrize("name", ["AFFINITY", "ANTI_AFFINITY", "SOFT_AFFINITY", "SOFT_ANTI_AFFINITY"])
def test_placement_is_told_the_policy_of_the_same_name(name: str) -> None:
    made = group(public.ServerGroupPolicy.Value(f"SERVER_GROUP_POLICY_{name}"))
    assert scheduling.GroupPolicy.Name(made.rule.policy) == f"GROUP_POLICY_{name}"
    assert made.rule.group_id == str(made.id)
    assert made.resource_name == f"projects/p/serverGroups/{made.id}"


def test_how_many_one_host_may_have_is_for_anti_affinity() -> None:
    assert group(public.SERVER_GROUP_POLICY_ANTI_AFFINITY, most=3).rule.max_servers_per_host == 3
    with pytest.raises(InvalidArgument, match=r"server_group\.max_servers_per_host"):
        group(public.SERVER_GROUP_POLICY_AFFINITY, most=3)
    with pytest.raises(InvalidArgument, match=r"server_group\.max_servers_per_host"):
        group(public.SERVER_GROUP_POLICY_ANTI_AFFINITY, most=-1)


def test_every_violation_is_told_at_once() -> None:
    with pytest.raises(InvalidArgument) as refused:
        group(public.SERVER_GROUP_POLICY_UNSPECIFIED, name="")
    assert {each.field for each in refused.value.violations} == {"server_group.display_name", "server_group.policy"}


def test_a_deleted_group_is_not_there() -> None:
    made = group(public.SERVER_GROUP_POLICY_AFFINITY)
    made.delete()
    with pytest.raises(NotFound):
        made.delete()
