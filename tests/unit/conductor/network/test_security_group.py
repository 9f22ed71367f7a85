"""Security groups: what they begin with, what is refused, what their constraint rows hold."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from cirra.network.v1 import events_pb2 as events
from cirra.network.v1 import security_group_pb2 as pb
from conductor.network.security_group import SecurityGroup
from core.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from core.eventlog.types import CounterAdd, UniqueClaim, UniqueRelease
from core.ids import uuid7
from tests.unit.conductor.facts import constrained, happened, refused_fields, saved

GROUP = UUID(int=7)
SSH = pb.SecurityGroupRule(direction=pb.TRAFFIC_DIRECTION_INGRESS, protocol="tcp", port_range_min=22, port_range_max=22)


def make(*rules: pb.SecurityGroupRule, **fields: bool) -> SecurityGroup:
    wanted = pb.SecurityGroup(display_name="web", rules=rules)
    return SecurityGroup.create(GROUP, wanted, project_id="p1", **fields)


def directions(group: SecurityGroup) -> list[tuple[bool, int, str]]:
    return [(spec.egress, spec.ip_version, spec.remote_group_id) for spec in group.spec().rules]


def test_a_new_group_lets_everything_out_and_nothing_in() -> None:
    assert directions(make()) == [(True, 4, ""), (True, 6, "")]
    assert directions(make(default_rules_too=False)) == []


def test_the_default_group_lets_its_members_in() -> None:
    group = SecurityGroup.create_default(GROUP, "p1")
    assert (group.display_name, group.is_default) == ("default", True)
    assert directions(group) == [(True, 4, ""), (True, 6, ""), (False, 4, str(GROUP)), (False, 6, str(GROUP))]
    assert UniqueClaim("default-security-group", "p1", str(GROUP)) in constrained(group)
    saved(group)
    with pytest.raises(FailedPrecondition, match="default group can't be deleted"):
        group.delete()
    with pytest.raises(FailedPrecondition, match="keeps its name"):
        group.update("mine", "")
    group.delete(with_project=True)
    assert UniqueRelease("default-security-group", "p1", str(GROUP)) in constrained(group)


def test_the_default_group_counts_for_no_quota_but_what_is_added_to_it_does() -> None:
    group = SecurityGroup.create_default(GROUP, "p1")
    first, *_ = group.rules

    def counted() -> list[CounterAdd]:
        rows = [row for row in constrained(group) if isinstance(row, CounterAdd) and row.scope.startswith("quota/")]
        saved(group)
        return rows

    assert counted() == []
    group.remove_rule(first)
    assert counted() == []
    group.add_rule(uuid7(), SSH)
    assert counted() == [CounterAdd("quota/security_group_rules", "p1", 1)]
    group.delete(with_project=True)
    assert counted() == [CounterAdd("quota/security_group_rules", "p1", -1)]


def test_nobody_else_is_called_default() -> None:
    with pytest.raises(InvalidArgument) as caught:
        SecurityGroup.create(GROUP, pb.SecurityGroup(display_name="Default"), project_id="p1")
    assert refused_fields(caught.value) == {"security_group.display_name"}


def test_rules_are_counted_found_and_given_back() -> None:
    group = make(SSH)
    ids = list(group.rules)
    assert constrained(group) == [
        CounterAdd("quota/security_groups", "p1", 1),
        CounterAdd("quota/security_group_rules", "p1", 3),
        *(UniqueClaim("security-group-rule", rule, str(GROUP)) for rule in ids),
    ]
    saved(group)
    group.remove_rule(ids[2])
    assert constrained(group) == [
        CounterAdd("quota/security_group_rules", "p1", -1),
        UniqueRelease("security-group-rule", ids[2], str(GROUP)),
    ]
    saved(group)
    group.delete()
    deleted = constrained(group)
    assert CounterAdd("quota/security_group_rules", "p1", -2) in deleted
    assert CounterAdd("quota/security_groups", "p1", -1) in deleted
    with pytest.raises(NotFound):
        group.add_rule(uuid7(), SSH)


def test_a_group_that_others_name_is_in_use() -> None:
    group, other = make(), str(uuid4())
    saved(group)
    rule = pb.SecurityGroupRule(direction=pb.TRAFFIC_DIRECTION_INGRESS, remote_group=other)
    rule_id = uuid7()
    group.add_rule(rule_id, rule)
    assert CounterAdd("rules-naming-security-group", other, 1) in constrained(group)
    saved(group)
    group.remove_rule(str(rule_id))
    assert CounterAdd("rules-naming-security-group", other, -1) in constrained(group)
    saved(group)
    rule.remote_group = str(GROUP)  # its own members: no use by others
    group.add_rule(uuid7(), rule)
    assert not [row for row in constrained(group) if getattr(row, "scope", "").startswith("rules-naming")]


def test_the_same_again_is_refused() -> None:
    group = make(SSH)
    again = pb.SecurityGroupRule(remote_ip_prefix="0.0.0.0/0", description="again")
    again.MergeFrom(SSH)
    with pytest.raises(AlreadyExists) as caught:
        group.add_rule(uuid7(), again)
    assert caught.value.reason == "DUPLICATE_RULE"
    assert caught.value.metadata["rule"] == list(group.rules)[2]
    with pytest.raises(AlreadyExists, match=r"rules\[1\]"):
        make(SSH, again)


def test_an_update_tells_what_has_changed() -> None:
    group = make()
    saved(group)
    group.update("web", "for people")
    [message] = happened(group)
    assert isinstance(message, events.SecurityGroupUpdated)
    assert (message.update_mask.paths, message.description) == (["description"], "for people")
    saved(group)
    group.update("web", "for people")
    assert happened(group) == []
    with pytest.raises(InvalidArgument):
        group.update("default", "")


def test_a_rule_that_is_not_there() -> None:
    with pytest.raises(NotFound, match="no security group rule"):
        make().remove_rule("x")
