from __future__ import annotations

import pytest

from cirra.identity.v1.identity_pb2 import ROLE_ADMIN, ROLE_MEMBER, ROLE_READER, Principal, Role
from conductor.access import require_admin, require_owner, require_project
from core.errors import CirraError, FailedPrecondition, NotFound, PermissionDenied


def principal(*roles: Role.ValueType, project_id: str = "p1") -> Principal:
    return Principal(user_id="u1", project_id=project_id, roles=roles)


def test_members_and_administrators_change_things_in_the_project_of_their_token() -> None:
    assert require_project(principal(ROLE_MEMBER)) == "p1"
    assert require_project(principal(ROLE_ADMIN)) == "p1"


@pytest.mark.parametrize(
    ("caller", "error"),
    [
        (principal(ROLE_READER), PermissionDenied),
        (principal(), PermissionDenied),
        (principal(ROLE_MEMBER, project_id=""), FailedPrecondition),
    ],
)
def test_others_are_told_what_they_lack(caller: Principal, error: type[CirraError]) -> None:
    with pytest.raises(error) as caught:
        require_project(caller)
    assert caught.value.remedy


def test_what_another_project_owns_is_not_there() -> None:
    require_owner(principal(ROLE_MEMBER), "p1", "image 1")
    require_owner(principal(ROLE_ADMIN), "p2", "image 1")
    with pytest.raises(NotFound, match="no image 1"):
        require_owner(principal(ROLE_MEMBER), "p2", "image 1")


def test_only_administrators_operate_the_cloud() -> None:
    require_admin(principal(ROLE_ADMIN))
    with pytest.raises(PermissionDenied):
        require_admin(principal(ROLE_MEMBER))
