"""Projects, users, logging in."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest
from argon2 import Parameters, PasswordHasher, extract_parameters

from cirra.compute.v1 import compute_pb2 as compute
from cirra.conductor.v1 import commands_pb2
from cirra.conductor.v1.commands_pb2 import Accepted
from cirra.identity.v1 import events_pb2
from cirra.identity.v1 import identity_pb2 as pb
from cirra.identity.v1.identity_pb2 import ROLE_ADMIN, ROLE_MEMBER, ROLE_READER, Principal, RoleBinding
from cirra.network.v1 import network_pb2 as network
from conductor.identity.commands import ensure_admin, finish_deletions
from conductor.identity.login import Login
from conductor.identity.passwords import PasswordCost, Passwords
from conductor.identity.user import User as UserAggregate
from core.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unauthenticated,
)
from core.ids import uuid7
from tests.harness.planted import planted
from tests.integration.conductor.resources.world import World, answers, errors, user

PASSWORD = planted("correct horse")


async def make_project(world: World, name: str, replica: int = 0) -> Accepted:
    request = pb.CreateProjectRequest(project=pb.Project(display_name=name))
    return await world.admin.call(world.replica(replica).identity.CreateProject, request)


async def make_user(world: World, name: str, *roles: RoleBinding, replica: int = 0) -> Accepted:
    request = pb.CreateUserRequest(user=pb.User(display_name=name, roles=roles), password=PASSWORD.encode())
    return await world.admin.call(world.replica(replica).identity.CreateUser, request)


async def login(world: World, name: str, password: str = PASSWORD, project: str = "") -> Principal:
    request = commands_pb2.VerifyPasswordRequest(user=name, password=password, project=project)
    return await world.second.identity.VerifyPassword(request, None)


async def test_the_first_start_makes_the_administrator_once(world: World) -> None:
    await asyncio.gather(
        *(ensure_admin(world.replica(n).repository, world.replica(n).passwords, PASSWORD) for n in range(6))
    )
    await ensure_admin(world.repository, world.first.passwords, "another password")
    principal = await login(world, "admin")
    assert ROLE_ADMIN in principal.roles
    assert principal.project_id == await world.log.unique_owner("project-name", "admin")
    users = await world.log.list_events(aggregate_type="user")
    assert sum(event.type == events_pb2.UserCreated.DESCRIPTOR.full_name for event in users) == 1


async def test_names_are_unique_also_at_once_and_free_again_after_deletion(world: World) -> None:
    projects = await world.at_once(8, lambda n: make_project(world, "p", replica=n))
    users = await world.at_once(8, lambda n: make_user(world, "u", replica=n))
    assert len(answers(projects)) == len(answers(users)) == 1
    for error in [*errors(projects), *errors(users)]:
        assert isinstance(error, AlreadyExists) and error.reason == "NAME_TAKEN"
    [made] = answers(projects)
    await world.admin.call(world.first.identity.DeleteProject, pb.DeleteProjectRequest(name=made.name))
    assert await make_project(world, "p")


async def test_a_user_logs_in_to_the_only_project_or_the_one_that_is_named(world: World) -> None:
    one, two = await make_project(world, "one"), await make_project(world, "two")
    made = await make_user(world, "ada", RoleBinding(project_id=one.uid, role=ROLE_MEMBER))
    assert await login(world, "ada") == Principal(
        user_id=made.uid, user_name="ada", project_id=one.uid, roles=[ROLE_MEMBER]
    )
    grant = pb.GrantRoleRequest(user=made.name, binding=RoleBinding(project_id=two.uid, role=ROLE_READER))
    await world.admin.call(world.first.identity.GrantRole, grant)
    assert (await login(world, "ada")).project_id == "", "which of the two is not guessed"
    for name in ("two", two.uid, two.name):
        principal = await login(world, "ada", project=name)
        assert (principal.project_id, list(principal.roles)) == (two.uid, [ROLE_READER])
    await world.admin.call(world.first.identity.RevokeRole, pb.RevokeRoleRequest(user=made.uid, binding=grant.binding))
    assert (await login(world, "ada")).project_id == one.uid


async def test_a_project_without_a_role_and_one_that_is_not_are_one_error(world: World) -> None:
    foreign = await make_project(world, "foreign")
    await make_user(world, "ada")
    messages = set()
    for project in (foreign.uid, "foreign", str(uuid7()), "nowhere"):
        with pytest.raises(PermissionDenied) as caught:
            await login(world, "ada", project=project)
        messages.add((caught.value.reason, caught.value.message))
    assert len(messages) == 1


async def test_a_wrong_password_and_an_unknown_user_are_one_error(world: World) -> None:
    await make_user(world, "ada")
    gone = await make_user(world, "gone")
    await world.admin.call(world.first.identity.DeleteUser, pb.DeleteUserRequest(name=gone.name))
    refusals = set()
    for name, password in (("ada", "wrong horse"), ("nobody", PASSWORD), ("gone", PASSWORD), ("", ""), ("a\0b", "x")):
        with pytest.raises(Unauthenticated) as caught:
            await login(world, name, password)
        refusals.add((caught.value.reason, caught.value.message, caught.value.remedy))
    assert len(refusals) == 1


async def test_an_unknown_user_costs_as_much_as_a_wrong_password(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One verification, against a hash of the same parameters: they decide how long it takes (RFC 9106, 3.1)."""
    passwords = Passwords(PasswordCost(time_cost=2, memory_kib=256, parallelism=1))
    ada = UserAggregate.create(uuid7(), "ada", await passwords.hash(PASSWORD))
    await world.repository.save(ada)
    attempts = Login(world.repository, passwords)
    verified: list[Parameters] = []
    verify = PasswordHasher.verify

    def watched(hasher: PasswordHasher, password_hash: bytes, password: str) -> bool:
        verified.append(extract_parameters(password_hash.decode()))
        return verify(hasher, password_hash, password)

    monkeypatch.setattr(PasswordHasher, "verify", watched)
    for name in ("ada", "bob"):
        with pytest.raises(Unauthenticated):
            await attempts.verify(name, "wrong horse", "")
    of_ada, of_nobody = verified
    assert of_nobody == of_ada
    assert (of_ada.time_cost, of_ada.memory_cost) == (2, 256)


async def test_a_deleted_user_s_secret_is_destroyed(world: World) -> None:
    made = await make_user(world, "ada")
    stored = await world.repository.load(UserAggregate, UUID(made.uid))
    assert stored.password_hash.startswith(b"$argon2id$")
    [event] = await world.log.read_aggregate(UUID(made.uid))
    assert b"argon2id" not in event.data
    await world.admin.call(world.first.identity.DeleteUser, pb.DeleteUserRequest(name=made.uid))
    again = await world.first.repository.load(UserAggregate, UUID(made.uid))
    assert (again.deleted, again.password_hash) == (True, b"")


async def test_a_deletion_that_was_cut_short_is_finished_at_the_next_start(world: World) -> None:
    kept, made = await make_user(world, "kept"), await make_user(world, "ada")
    await world.repository.change(UserAggregate, UUID(made.uid), UserAggregate.delete)
    assert (await world.repository.load(UserAggregate, UUID(made.uid))).password_hash
    await finish_deletions(world.repository)
    assert (await world.repository.load(UserAggregate, UUID(made.uid))).password_hash == b""
    assert (await world.repository.load(UserAggregate, UUID(kept.uid))).password_hash


async def test_bad_users_and_roles_name_the_field(world: World) -> None:
    for binding, field in (
        (RoleBinding(role=ROLE_MEMBER), "user.roles[0].project_id"),
        (RoleBinding(project_id=str(uuid7()), role=ROLE_MEMBER), "user.roles[0].project_id"),
        (RoleBinding(project_id=world.project_id, role=ROLE_ADMIN), "user.roles[0].project_id"),
        (RoleBinding(project_id=world.project_id), "user.roles[0].role"),
    ):
        with pytest.raises(InvalidArgument) as caught:
            await make_user(world, "ada", binding)
        assert [violation.field for violation in caught.value.violations] == [field]
    with pytest.raises(InvalidArgument, match=r"user\.display_name"):
        await make_user(world, "")


async def test_nobody_locks_themselves_out(world: World) -> None:
    request = pb.DeleteUserRequest(name=world.admin.principal.user_id)
    with pytest.raises(FailedPrecondition, match="yourself"):
        await world.admin.call(world.first.identity.DeleteUser, request)
    revocation = pb.RevokeRoleRequest(user=request.name, binding=RoleBinding(role=ROLE_ADMIN))
    with pytest.raises(FailedPrecondition):
        await world.admin.call(world.first.identity.RevokeRole, revocation)


async def test_members_don_t_operate_the_cloud(world: World) -> None:
    identity = world.first.identity
    for method, request in (
        (identity.CreateProject, pb.CreateProjectRequest(project=pb.Project(display_name="x"))),
        (identity.CreateUser, pb.CreateUserRequest()),
        (identity.SetQuotas, pb.SetQuotasRequest()),
        (identity.GrantRole, pb.GrantRoleRequest()),
        (world.first.catalog.CreateFlavor, compute.CreateFlavorRequest()),
    ):
        with pytest.raises(PermissionDenied):
            await world.member.call(method, request)


async def test_quotas_show_limit_and_usage_and_may_shrink_below_it(world: World) -> None:
    made, _ = await world.make_subnet("10.0.0.0/24")
    for _ in range(3):
        await world.make_port(made.uid)
    request = pb.SetQuotasRequest(project=f"projects/{world.project_id}", quotas=[pb.Quota(resource="ports", limit=2)])
    await world.admin.call(world.first.identity.SetQuotas, request)
    found = await world.member.call(world.second.identity.GetQuotas, pb.GetQuotasRequest())
    assert found.name == f"projects/{world.project_id}/quotas"
    by_resource = {quota.resource: (quota.limit, quota.usage) for quota in found.quotas}
    assert by_resource["ports"] == (2, 3)
    assert by_resource["networks"] == (-1, 1)
    with pytest.raises(Exception, match="3 of 2 used, 1 more asked"):
        await world.make_port(made.uid)
    stranger = user(str(uuid7()), ROLE_MEMBER)
    with pytest.raises(NotFound):
        await stranger.call(
            world.first.identity.GetQuotas, pb.GetQuotasRequest(project=f"projects/{world.project_id}/quotas")
        )


async def test_a_project_with_anything_left_is_not_deleted(world: World) -> None:
    made, _ = await world.make_subnet("10.0.0.0/24")
    request = pb.DeleteProjectRequest(name=f"projects/{world.project_id}")
    with pytest.raises(FailedPrecondition, match="1 networks are left") as caught:
        await world.admin.call(world.first.identity.DeleteProject, request)
    assert caught.value.reason == "PROJECT_IN_USE"
    await world.member.call(world.first.network.DeleteNetwork, network.DeleteNetworkRequest(name=made.uid))
    await world.admin.call(world.first.identity.DeleteProject, request)
    with pytest.raises(Exception, match="quota"):
        await world.make_subnet("10.0.0.0/24")


async def test_a_token_is_revoked_once(world: World) -> None:
    request = commands_pb2.RevokeTokenCommand(token_id=str(uuid7()), expires_at_unix=2_000_000_000)
    first = await world.member.call(world.first.identity.RevokeToken, request)
    again = await world.member.call(world.second.identity.RevokeToken, request)
    assert again.uid == first.uid == request.token_id
    [event] = await world.log.list_events(aggregate_type="token")
    revoked = events_pb2.TokenRevoked.FromString(event.data)
    assert revoked.expire_time.seconds == 2_000_000_000
    assert revoked.user_id == event.actor == world.member.principal.user_id
