"""Projects and users."""

from __future__ import annotations

from api_gateway.views.view import Audience, Columns, View
from cirra.identity.v1 import events_pb2 as events
from cirra.identity.v1 import identity_pb2 as pb
from core.eventlog.types import RecordedEvent

PROJECT = View(
    "project",
    pb.Project,
    columns=lambda project: Columns(project_id=project.uid, display_name=project.display_name),
    audience=Audience.PROJECT,
)
USER = View("user", pb.User, columns=lambda user: Columns(display_name=user.display_name), audience=Audience.ITSELF)


@PROJECT.on(events.ProjectCreated, begins=True)
def _project_created(project: pb.Project, event: RecordedEvent, message: events.ProjectCreated) -> None:
    project.name = f"projects/{project.uid}"
    project.display_name = message.display_name
    project.description = message.description


@PROJECT.on(events.ProjectQuotasSet)
def _quotas_set(project: pb.Project, event: RecordedEvent, message: events.ProjectQuotasSet) -> None:
    """Limits and usage are asked of the conductor: only the log's counters know both."""


@PROJECT.on(events.ProjectDeleted, ends=True)
def _project_deleted(project: pb.Project, event: RecordedEvent, message: events.ProjectDeleted) -> None:
    """Its last state stays."""


@USER.on(events.UserCreated, begins=True)
def _user_created(user: pb.User, event: RecordedEvent, message: events.UserCreated) -> None:
    user.name = f"users/{user.uid}"
    user.display_name = message.display_name


@USER.on(events.UserRoleGranted)
def _role_granted(user: pb.User, event: RecordedEvent, message: events.UserRoleGranted) -> None:
    if message.binding not in user.roles:
        user.roles.append(message.binding)


@USER.on(events.UserRoleRevoked)
def _role_revoked(user: pb.User, event: RecordedEvent, message: events.UserRoleRevoked) -> None:
    kept = [binding for binding in user.roles if binding != message.binding]
    del user.roles[:]
    user.roles.extend(kept)


@USER.on(events.UserDeleted, ends=True)
def _user_deleted(user: pb.User, event: RecordedEvent, message: events.UserDeleted) -> None:
    """Its last state stays."""
