"""Server groups, with the instances that are in them."""

from __future__ import annotations

from api_gateway.views.view import Columns, View
from cirra.compute.v1 import events_pb2 as events
from cirra.compute.v1 import server_group_pb2 as pb
from core.eventlog.types import RecordedEvent

SERVER_GROUP = View(
    "server_group",
    pb.ServerGroup,
    columns=lambda group: Columns(project_id=group.project_id, about=group.user_id, display_name=group.display_name),
    title="server group",
)


def _group_of(event: RecordedEvent, message: events.InstanceCreated | events.InstanceDeleted) -> str:
    return message.server_group_id


@SERVER_GROUP.on(events.ServerGroupCreated, begins=True)
def _created(group: pb.ServerGroup, event: RecordedEvent, message: events.ServerGroupCreated) -> None:
    group.name = f"projects/{message.project_id}/serverGroups/{group.uid}"
    group.project_id = message.project_id
    group.user_id = message.user_id
    group.display_name = message.display_name
    group.policy = message.policy
    group.max_servers_per_host = message.max_servers_per_host


@SERVER_GROUP.on(events.InstanceCreated, of=_group_of)
def _joined(group: pb.ServerGroup, event: RecordedEvent, message: events.InstanceCreated) -> None:
    group.members.append(str(event.aggregate_id))


@SERVER_GROUP.on(events.InstanceDeleted, of=_group_of)
def _left(group: pb.ServerGroup, event: RecordedEvent, message: events.InstanceDeleted) -> None:
    group.members.remove(str(event.aggregate_id))


@SERVER_GROUP.on(events.ServerGroupDeleted, ends=True)
def _deleted(group: pb.ServerGroup, event: RecordedEvent, message: events.ServerGroupDeleted) -> None:
    """Its last state stays."""
