"""Commands on projects, users and tokens."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from cirra.conductor.v1 import commands_pb2, commands_pb2_grpc
from cirra.identity.v1 import identity_pb2 as pb
from cirra.identity.v1.events_pb2 import UserDeleted
from cirra.identity.v1.identity_pb2 import ROLE_ADMIN, ROLE_UNSPECIFIED, Principal, Role, RoleBinding
from conductor import quotas
from conductor.access import is_admin, require_admin
from conductor.fields import Fields, uid
from conductor.identity.default_quotas import DEFAULT_QUOTAS_ID, DefaultQuotas
from conductor.identity.login import Login
from conductor.identity.passwords import Passwords, checked_password
from conductor.identity.project import NAMES, Project
from conductor.identity.token import Token
from conductor.identity.user import User
from conductor.network.port_security import delete_default_group
from conductor.requests import Commands, Done, Requests, command, load_live
from conductor.violations import project_in_use
from core.errors import FailedPrecondition, FieldViolation, InvalidArgument, NotFound
from core.eventlog.errors import LimitExceeded, UniqueViolation
from core.ids import parse_uuid, uuid7
from core.repository import Repository, again_on_conflict

MAX_UNIX_TIME = 253402300799  # the end of the year 9999, the last one that a Timestamp can tell


class IdentityCommands(Commands, commands_pb2_grpc.IdentityCommandsServicer):
    def __init__(self, repository: Repository, passwords: Passwords, requests: Requests | None = None) -> None:
        super().__init__(repository, requests)
        self._passwords = passwords
        self._login = Login(repository, passwords)

    async def VerifyPassword(self, request: commands_pb2.VerifyPasswordRequest, context: Any) -> Principal:
        """Who logs in. Needs no principal."""
        return await self._login.verify(request.user, request.password, request.project)

    @command(Token)
    async def RevokeToken(self, request: commands_pb2.RevokeTokenCommand, principal: Principal) -> Done:
        token_id = uid("token_id", request.token_id)
        fields = Fields()
        fields.between("expires_at_unix", request.expires_at_unix, 0, MAX_UNIX_TIME, "seconds")
        fields.check()
        token = await self.repository.find(Token, token_id)
        if token is None:
            token = Token.revoke(token_id, user_id=principal.user_id, expires_at_unix=request.expires_at_unix)
        return Done(token, await self.repository.save(token))

    @command(Project)
    async def CreateProject(self, request: pb.CreateProjectRequest, principal: Principal) -> Done:
        require_admin(principal)
        fields = Fields("project.")
        fields.name("display_name", request.project.display_name)
        fields.title("description", request.project.description, required=False)
        fields.check()
        defaults = await self._default_quotas()
        project = Project.create(
            uuid7(),
            request.project.display_name,
            description=request.project.description,
            limits=defaults.limits,
        )
        return Done(project, await self.repository.save(project))

    @command(Project)
    async def DeleteProject(self, request: pb.DeleteProjectRequest, principal: Principal) -> Done:
        require_admin(principal)
        project_id = uid("name", request.name)
        try:
            await delete_default_group(self.repository, str(project_id))
            project, saved = await self.repository.change(Project, project_id, Project.delete)
        except LimitExceeded as error:
            raise project_in_use(project_id, error) from error
        return Done(project, saved)

    @command(User)
    async def CreateUser(self, request: pb.CreateUserRequest, principal: Principal) -> Done:
        require_admin(principal)
        fields = Fields("user.")
        fields.name("display_name", request.user.display_name)
        fields.check()
        password = checked_password("password", request.password)
        for index, binding in enumerate(request.user.roles):
            await self._check_binding(f"user.roles[{index}]", binding)
        user = User.create(uuid7(), request.user.display_name, await self._passwords.hash(password))
        for binding in request.user.roles:
            user.grant(binding)
        return Done(user, await self.repository.save(user))

    @command(User)
    async def DeleteUser(self, request: pb.DeleteUserRequest, principal: Principal) -> Done:
        require_admin(principal)
        user_id = uid("name", request.name)
        if str(user_id) == principal.user_id:
            raise FailedPrecondition("you can't delete yourself", remedy="let another administrator do it")
        user, saved = await self.repository.change(User, user_id, User.delete)
        await self.repository.destroy_secrets(user_id)
        return Done(user, saved)

    @command(User)
    async def GrantRole(self, request: pb.GrantRoleRequest, principal: Principal) -> Done:
        require_admin(principal)
        await self._check_binding("binding", request.binding)
        user, saved = await self.repository.change(
            User, uid("user", request.user), lambda user: user.grant(request.binding)
        )
        return Done(user, saved)

    @command(User)
    async def RevokeRole(self, request: pb.RevokeRoleRequest, principal: Principal) -> Done:
        require_admin(principal)
        user_id = uid("user", request.user)
        if str(user_id) == principal.user_id and request.binding.role == ROLE_ADMIN:
            raise FailedPrecondition("you can't end your own administration", remedy="let another administrator do it")
        user, saved = await self.repository.change(User, user_id, lambda user: user.revoke(request.binding))
        return Done(user, saved)

    @command(Project)
    async def SetQuotas(self, request: pb.SetQuotasRequest, principal: Principal) -> Done:
        require_admin(principal)
        limits = quotas.checked(request.quotas)
        project, saved = await self.repository.change(
            Project, _project_of_quotas(request.project, principal), lambda project: project.set_quotas(limits)
        )
        return Done(project, saved)

    async def GetQuotas(self, request: pb.GetQuotasRequest, context: Any) -> pb.Quotas:
        """Limits and usage, as the log's counters have them now."""
        principal = self.requests.principal
        project_id = _project_of_quotas(request.project, principal)
        if not is_admin(principal) and str(project_id) != principal.project_id:
            raise NotFound(f"no project {project_id}")
        await load_live(self.repository, Project, project_id)
        found = pb.Quotas(name=f"projects/{project_id}/quotas")
        for resource in quotas.DEFAULTS:
            counter = await self.repository.log.counter(quotas.scope(resource), str(project_id))
            limit = quotas.UNLIMITED if counter.limit is None else counter.limit
            found.quotas.add(resource=resource, limit=limit, usage=counter.used)
        return found

    @command(DefaultQuotas)
    async def SetDefaultQuotas(self, request: pb.SetDefaultQuotasRequest, principal: Principal) -> Done:
        require_admin(principal)
        limits = quotas.checked(request.quotas)

        async def once() -> Done:
            defaults = await self._default_quotas()
            defaults.set(limits)
            return Done(defaults, await self.repository.save(defaults))

        return await again_on_conflict(once)

    async def GetDefaultQuotas(self, request: pb.GetDefaultQuotasRequest, context: Any) -> pb.Quotas:
        """What a project that is made now is given."""
        defaults = await self._default_quotas()
        return pb.Quotas(
            name=defaults.resource_name,
            quotas=[pb.Quota(resource=resource, limit=limit) for resource, limit in defaults.limits.items()],
        )

    async def _default_quotas(self) -> DefaultQuotas:
        found = await self.repository.find(DefaultQuotas, DEFAULT_QUOTAS_ID)
        return found or DefaultQuotas.new(DEFAULT_QUOTAS_ID)

    async def _check_binding(self, field: str, binding: RoleBinding) -> None:
        """Raises InvalidArgument for no role, an unknown project, or a role that does not go with its scope."""
        if binding.role == ROLE_UNSPECIFIED or binding.role not in Role.values():
            raise InvalidArgument(FieldViolation(f"{field}.role", "give ROLE_READER, ROLE_MEMBER or ROLE_ADMIN"))
        if binding.role == ROLE_ADMIN:
            if binding.project_id:
                raise InvalidArgument(
                    FieldViolation(f"{field}.project_id", "ROLE_ADMIN is for the whole cloud: leave it empty")
                )
            return
        project_id = parse_uuid(binding.project_id)
        project = None if project_id is None else await self.repository.find(Project, project_id)
        if project is None or project.deleted:
            raise InvalidArgument(
                FieldViolation(f"{field}.project_id", f"{binding.project_id!r} is no project's uid: name a project")
            )


def _project_of_quotas(name: str, principal: Principal) -> UUID:
    """`projects/{project}` or `projects/{project}/quotas`; empty: the token's project."""
    if not name and not principal.project_id:
        raise InvalidArgument(FieldViolation("project", "it is empty and the token is for no project: name one"))
    return uid("project", name.removesuffix("/quotas") or principal.project_id)


async def ensure_admin(repository: Repository, passwords: Passwords, password: str) -> None:
    """Makes project `admin` and user `admin`, who operates the cloud, unless there is a project of that name.

    Safe when replicas start at once. An existing user's password is left as it is.
    """
    if await repository.log.unique_owner(NAMES, "admin") is not None:
        return
    project = Project.create(uuid7(), "admin", description="The operators of this cloud")
    user = User.create(uuid7(), "admin", await passwords.hash(password))
    user.grant(RoleBinding(role=ROLE_ADMIN))
    user.grant(RoleBinding(project_id=str(project.id), role=pb.ROLE_MEMBER))
    try:
        await repository.save(project, user)
    except UniqueViolation:
        # Another replica was first. A user `admin` without the project keeps what an administrator made of it.
        return


async def finish_deletions(repository: Repository) -> None:
    """Destroys the secrets of deleted users once more: a replica may have died between the event and that.

    Call it when a replica starts.
    """
    after = 0
    while events := await repository.log.list_events(aggregate_type=User.kind, after=after):
        for event in events:
            if event.type == UserDeleted.DESCRIPTOR.full_name:
                await repository.destroy_secrets(event.aggregate_id)
        after = events[-1].position
