"""IdentityService: tokens, projects, users, quotas."""

from __future__ import annotations

from typing import Any

from api_gateway.api.call import Call, Parts, Servicer, served
from api_gateway.api.fields import Fields
from api_gateway.api.forward import accept, forwarded, named, nothing, the
from api_gateway.api.read import getter, lister
from api_gateway.auth.tokens import Tokens
from api_gateway.views.identity import PROJECT, USER
from cirra.conductor.v1.commands_pb2 import RevokeTokenCommand, VerifyPasswordRequest
from cirra.identity.v1 import identity_pb2 as pb
from cirra.identity.v1 import identity_pb2_grpc
from core.errors import FieldViolation, InvalidArgument, PermissionDenied, Unavailable

FEED_WAIT_S = 5.0


async def _prepare_project(command: pb.CreateProjectRequest, call: Call) -> None:
    fields = Fields("project.")
    fields.name("display_name", command.project.display_name)
    fields.title("description", command.project.description, required=False)
    fields.check()


async def _prepare_user(command: pb.CreateUserRequest, call: Call) -> None:
    fields = Fields()
    fields.name("user.display_name", command.user.display_name)
    if not command.password:
        fields.refuse("password", "it is empty: give one")
    for index, binding in enumerate(command.user.roles):
        await _prepare_binding(fields, f"user.roles[{index}]", binding, call)
    fields.check()


async def _prepare_role(command: pb.GrantRoleRequest | pb.RevokeRoleRequest, call: Call) -> None:
    fields = Fields()
    user = await fields.reference(call.reader, USER, "user", command.user)
    await _prepare_binding(fields, "binding", command.binding, call)
    fields.check()
    command.user = user.resource.name if user else ""


async def _prepare_binding(fields: Fields, field: str, binding: pb.RoleBinding, call: Call) -> None:
    if binding.role == pb.ROLE_UNSPECIFIED or binding.role not in pb.Role.values():
        fields.refuse(f"{field}.role", "give ROLE_READER, ROLE_MEMBER or ROLE_ADMIN")
    elif binding.role == pb.ROLE_ADMIN:
        if binding.project_id:
            fields.refuse(f"{field}.project_id", "ROLE_ADMIN is for the whole cloud: leave it empty")
    else:
        project = await fields.reference(call.reader, PROJECT, f"{field}.project_id", binding.project_id)
        binding.project_id = project.uid if project else ""


async def _name_project(command: pb.GetQuotasRequest | pb.SetQuotasRequest, call: Call) -> None:
    """`projects/{project}`, `projects/{project}/quotas`, a uid or a display name; empty: the token's project."""
    name = command.project.removesuffix("/quotas") or call.reader.principal.project_id
    if not name:
        raise InvalidArgument(FieldViolation("project", "it is empty and the token is for no project: name one"))
    project = await call.reader.find(PROJECT, name, field="project")
    command.project = project.resource.name


class IdentityService(Servicer, identity_pb2_grpc.IdentityServiceServicer):
    def __init__(self, parts: Parts, tokens: Tokens) -> None:
        super().__init__(parts)
        self._tokens = tokens

    CreateProject = forwarded(lambda conductor: conductor.identity.CreateProject, _prepare_project, the(PROJECT))
    GetProject = getter(PROJECT)
    ListProjects = lister(PROJECT, pb.ListProjectsResponse)
    DeleteProject = forwarded(
        lambda conductor: conductor.identity.DeleteProject, named(PROJECT), nothing(pb.DeleteProjectResponse)
    )

    CreateUser = forwarded(lambda conductor: conductor.identity.CreateUser, _prepare_user, the(USER))
    GetUser = getter(USER)
    ListUsers = lister(USER, pb.ListUsersResponse)
    DeleteUser = forwarded(lambda conductor: conductor.identity.DeleteUser, named(USER), nothing(pb.DeleteUserResponse))
    GrantRole = forwarded(lambda conductor: conductor.identity.GrantRole, _prepare_role, the(USER))
    RevokeRole = forwarded(lambda conductor: conductor.identity.RevokeRole, _prepare_role, the(USER))

    async def CreateToken(self, request: pb.CreateTokenRequest, context: Any) -> pb.Token:
        """The one method that needs no token."""
        fields = Fields()
        for field in ("user", "password"):
            if not getattr(request, field):
                fields.refuse(field, "it is empty")
        fields.check()
        conductor = self.parts.conductor
        proof = VerifyPasswordRequest(user=request.user, password=request.password, project=request.project)
        principal: pb.Principal = await conductor.ask(conductor.identity.VerifyPassword, proof)
        text, token = self._tokens.issue(principal)
        answer = pb.Token(access_token=text, principal=principal)
        answer.expire_time.FromDatetime(token.expires_at)
        return answer

    @served
    async def RevokeToken(self, request: pb.RevokeTokenRequest, call: Call) -> pb.RevokeTokenResponse:
        """One's own, or as an administrator anybody's. What has expired is ended already, and is told the same."""
        token = self._tokens.verify(request.access_token, expired_too=True)
        if token.principal.user_id != call.reader.principal.user_id and not call.reader.is_admin:
            raise PermissionDenied("the token is another user's", remedy="ask that user, or an administrator")
        command = RevokeTokenCommand(token_id=str(token.token_id), expires_at_unix=int(token.expires_at.timestamp()))
        await accept(call, lambda conductor: conductor.identity.RevokeToken, command)
        if not await self.parts.feed.wait_for(call.written, FEED_WAIT_S):
            raise Unavailable("the token is revoked, but not known to be so here yet", remedy="try again in a moment")
        return pb.RevokeTokenResponse()

    @served
    async def GetQuotas(self, request: pb.GetQuotasRequest, call: Call) -> pb.Quotas:
        """Limits and usage: asked of the conductor, since only the log's counters know both."""
        return await self._quotas(request.project, call)

    @served
    async def SetQuotas(self, request: pb.SetQuotasRequest, call: Call) -> pb.Quotas:
        command = pb.SetQuotasRequest()
        command.CopyFrom(request)
        fields = Fields()
        fields.request_id(request.request_id)
        if not request.quotas:
            fields.refuse("quotas", "none is given: name a resource and its limit")
        fields.check()
        await _name_project(command, call)
        await accept(call, lambda conductor: conductor.identity.SetQuotas, command)
        return await self._quotas(command.project, call)

    @served
    async def GetDefaultQuotas(self, request: pb.GetDefaultQuotasRequest, call: Call) -> pb.Quotas:
        return await self._default_quotas()

    @served
    async def SetDefaultQuotas(self, request: pb.SetDefaultQuotasRequest, call: Call) -> pb.Quotas:
        command = pb.SetDefaultQuotasRequest()
        command.CopyFrom(request)
        fields = Fields()
        fields.request_id(request.request_id)
        fields.check()
        await accept(call, lambda conductor: conductor.identity.SetDefaultQuotas, command)
        return await self._default_quotas()

    async def _default_quotas(self) -> pb.Quotas:
        conductor = self.parts.conductor
        quotas: pb.Quotas = await conductor.ask(conductor.identity.GetDefaultQuotas, pb.GetDefaultQuotasRequest())
        return quotas

    async def _quotas(self, project: str, call: Call) -> pb.Quotas:
        query = pb.GetQuotasRequest(project=project)
        await _name_project(query, call)
        conductor = self.parts.conductor
        quotas: pb.Quotas = await conductor.ask(conductor.identity.GetQuotas, query)
        return quotas
