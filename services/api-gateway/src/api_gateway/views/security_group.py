"""Security groups, with their rules."""

from __future__ import annotations

from api_gateway.views.view import Columns, View
from cirra.network.v1 import events_pb2 as events
from cirra.network.v1 import security_group_pb2 as pb
from core.eventlog.types import RecordedEvent

SECURITY_GROUP = View(
    "security_group",
    pb.SecurityGroup,
    columns=lambda group: Columns(project_id=group.project_id, display_name=group.display_name),
    title="security group",
)


@SECURITY_GROUP.on(events.SecurityGroupCreated, begins=True)
def _created(group: pb.SecurityGroup, event: RecordedEvent, message: events.SecurityGroupCreated) -> None:
    group.name = f"projects/{message.project_id}/securityGroups/{group.uid}"
    group.project_id = message.project_id
    group.display_name = message.display_name
    group.description = message.description
    group.is_default = message.is_default
    group.rules.extend(message.rules)


@SECURITY_GROUP.on(events.SecurityGroupUpdated)
def _updated(group: pb.SecurityGroup, event: RecordedEvent, message: events.SecurityGroupUpdated) -> None:
    for path in message.update_mask.paths:
        setattr(group, path, getattr(message, path))


@SECURITY_GROUP.on(events.SecurityGroupRuleAdded)
def _rule_added(group: pb.SecurityGroup, event: RecordedEvent, message: events.SecurityGroupRuleAdded) -> None:
    group.rules.append(message.rule)


@SECURITY_GROUP.on(events.SecurityGroupRuleRemoved)
def _rule_removed(group: pb.SecurityGroup, event: RecordedEvent, message: events.SecurityGroupRuleRemoved) -> None:
    kept = [rule for rule in group.rules if rule.uid != message.rule.uid]
    del group.rules[:]
    group.rules.extend(kept)


@SECURITY_GROUP.on(events.SecurityGroupDeleted, ends=True)
def _deleted(group: pb.SecurityGroup, event: RecordedEvent, message: events.SecurityGroupDeleted) -> None:
    """Its last state stays."""
