from __future__ import annotations

from uuid import uuid4

import pytest

from cirra.identity.v1.events_pb2 import UserCreated
from cirra.identity.v1.identity_pb2 import ROLE_ADMIN, ROLE_MEMBER, ROLE_READER, RoleBinding
from conductor.identity.user import User
from core.errors import NotFound, PermissionDenied
from core.eventlog.types import CounterAdd, CounterLimit, UniqueClaim, UniqueRelease
from core.sealing import sensitive_paths
from tests.unit.conductor.facts import constrained, happened, saved

USER = uuid4()


def make(*bindings: RoleBinding) -> User:
    user = User.create(USER, "ada", b"$argon2id$")
    for binding in bindings:
        user.grant(binding)
    return user


def test_the_name_is_claimed_and_released_and_the_hash_is_secret() -> None:
    user = make()
    assert constrained(user) == [UniqueClaim("user-name", "ada", str(USER))]
    assert sensitive_paths(UserCreated.DESCRIPTOR)
    saved(user)
    user.delete()
    assert constrained(user) == [
        UniqueRelease("user-name", "ada", str(USER)),
        CounterLimit("key-pairs-of-user", str(USER), 1),
        CounterAdd("key-pairs-of-user", str(USER), 1),
        CounterAdd("key-pairs-of-user", str(USER), -1),
        CounterLimit("key-pairs-of-user", str(USER), 0),
    ]
    with pytest.raises(NotFound):
        user.grant(RoleBinding(project_id="p1", role=ROLE_READER))


def test_granting_and_revoking_again_changes_nothing() -> None:
    member = RoleBinding(project_id="p1", role=ROLE_MEMBER)
    user = make(member)
    saved(user)
    user.grant(member)
    assert happened(user) == []
    user.revoke(member)
    user.revoke(member)
    assert len(happened(user)) == 1
    assert user.projects == []


def test_roles_count_in_their_project_and_the_cloud_s_everywhere() -> None:
    user = make(
        RoleBinding(project_id="p1", role=ROLE_MEMBER),
        RoleBinding(project_id="p1", role=ROLE_READER),
        RoleBinding(project_id="p2", role=ROLE_READER),
    )
    assert list(user.principal("p1").roles) == [ROLE_READER, ROLE_MEMBER]
    assert list(user.principal("p2").roles) == [ROLE_READER]
    assert list(user.principal("").roles) == []
    with pytest.raises(PermissionDenied):
        user.principal("p3")
    user.grant(RoleBinding(role=ROLE_ADMIN))
    assert list(user.principal("p3").roles) == [ROLE_ADMIN]
    assert list(user.principal("p2").roles) == [ROLE_READER, ROLE_ADMIN]
    assert user.projects == ["p1", "p2"]
