"""What a token may tell of: the roles that its user has in this moment."""

from __future__ import annotations

from uuid import UUID, uuid4

from google.protobuf.message import Message

from api_gateway.auth.roles import Roles
from cirra.identity.v1.events_pb2 import TokenRevoked, UserCreated, UserDeleted, UserRoleGranted, UserRoleRevoked
from cirra.identity.v1.identity_pb2 import ROLE_ADMIN, ROLE_MEMBER, Principal, Role, RoleBinding
from tests.unit.api_gateway.history import History

ALICE = uuid4()


def _roles(*messages: Message, user: UUID = ALICE) -> Roles:
    roles, history = Roles(), History()
    for message in messages:
        roles.heard(history.add("user", user, message))
    return roles


def _granted(role: Role.ValueType, project: str = "") -> UserRoleGranted:
    return UserRoleGranted(binding=RoleBinding(project_id=project, role=role))


def _revoked(role: Role.ValueType, project: str = "") -> UserRoleRevoked:
    return UserRoleRevoked(binding=RoleBinding(project_id=project, role=role))


def _alice(*roles: Role.ValueType, project: str = "p1") -> Principal:
    return Principal(user_id=str(ALICE), project_id=project, roles=roles)


def test_roles_count_in_their_project_and_those_of_the_cloud_in_each() -> None:
    roles = _roles(UserCreated(), _granted(ROLE_MEMBER, "p1"), _granted(ROLE_ADMIN))
    assert roles.cover(_alice(ROLE_MEMBER, ROLE_ADMIN))
    assert roles.cover(_alice(ROLE_ADMIN, project="p2")) and roles.cover(_alice(project="p2"))
    assert not roles.cover(_alice(ROLE_MEMBER, project="p2"))


def test_a_role_that_is_held_twice_stays_when_one_is_taken_away() -> None:
    both = (UserCreated(), _granted(ROLE_ADMIN), _granted(ROLE_ADMIN, "p1"))
    assert _roles(*both, _revoked(ROLE_ADMIN)).cover(_alice(ROLE_ADMIN))
    assert not _roles(*both, _revoked(ROLE_ADMIN), _revoked(ROLE_ADMIN, "p1")).cover(_alice(ROLE_ADMIN))


def test_nothing_covers_who_was_deleted_and_the_signature_whom_the_log_does_not_know() -> None:
    assert not _roles(UserCreated(), UserDeleted()).cover(_alice())
    assert _roles(UserCreated(), user=uuid4()).cover(_alice(ROLE_ADMIN))
    assert _roles(TokenRevoked()).cover(_alice(ROLE_ADMIN))


def test_who_watches_is_told_when_a_role_of_theirs_is_taken_away() -> None:
    roles, history, told = Roles(), History(), []
    for message in (UserCreated(), _granted(ROLE_MEMBER, "p1"), _granted(ROLE_MEMBER, "p2")):
        roles.heard(history.add("user", ALICE, message))
    with roles.telling(_alice(ROLE_MEMBER), lambda: told.append("here")):
        roles.heard(history.add("user", ALICE, _revoked(ROLE_MEMBER, "p2")))
        assert told == []
        roles.heard(history.add("user", ALICE, _revoked(ROLE_MEMBER, "p1")))
        assert told == ["here"]
    roles.heard(history.add("user", ALICE, UserDeleted()))
    assert told == ["here"]
