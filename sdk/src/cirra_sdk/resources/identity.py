"""Projects, users, quotas and tokens."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import ClassVar

from cirra.identity.v1 import identity_pb2 as pb
from cirra.identity.v1.identity_pb2_grpc import IdentityServiceStub
from cirra_sdk.resources.collection import Collection, name_of, request_id_or_new
from cirra_sdk.transport import NoToken, Transport


class Projects(Collection[pb.Project]):
    """What owns instances, networks and quotas."""

    messages: ClassVar[ModuleType] = pb
    stub_class = IdentityServiceStub
    kind = "Project"

    async def create(self, display_name: str, *, description: str = "", request_id: str | None = None) -> pb.Project:
        """Raises AlreadyExists."""
        project = pb.Project(display_name=display_name, description=description)
        made: pb.Project = await self._call("CreateProject", project=project, request_id=request_id_or_new(request_id))
        return made


class Users(Collection[pb.User]):
    """People and programs that log in."""

    messages: ClassVar[ModuleType] = pb
    stub_class = IdentityServiceStub
    kind = "User"

    async def create(self, display_name: str, password: str, *, request_id: str | None = None) -> pb.User:
        """Without a role yet: `grant_role` gives one. Raises AlreadyExists."""
        made: pb.User = await self._call(
            "CreateUser",
            user=pb.User(display_name=display_name),
            password=password.encode(),
            request_id=request_id_or_new(request_id),
        )
        return made

    async def grant_role(
        self,
        user: pb.User | str,
        role: pb.Role.ValueType,
        project: pb.Project | str = "",
        *,
        request_id: str | None = None,
    ) -> pb.User:
        """*project* is left out for ROLE_ADMIN, which is for the whole cloud."""
        return await self._bind("GrantRole", user, role, project, request_id)

    async def revoke_role(
        self,
        user: pb.User | str,
        role: pb.Role.ValueType,
        project: pb.Project | str = "",
        *,
        request_id: str | None = None,
    ) -> pb.User:
        """The inverse of `grant_role`; a role that the user does not have is no error."""
        return await self._bind("RevokeRole", user, role, project, request_id)

    async def _bind(
        self, rpc: str, user: pb.User | str, role: pb.Role.ValueType, project: pb.Project | str, request_id: str | None
    ) -> pb.User:
        binding = pb.RoleBinding(project_id=project if isinstance(project, str) else project.uid, role=role)
        changed: pb.User = await self._call(
            rpc, user=name_of(user), binding=binding, request_id=request_id_or_new(request_id)
        )
        return changed


class Quotas:
    """What a project may have, and has."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._stub = IdentityServiceStub(transport.channel)

    async def get(self, project: pb.Project | str = "") -> pb.Quotas:
        """Limits and usage; of the token's project unless one is named."""
        request = pb.GetQuotasRequest(project=name_of(project))
        found: pb.Quotas = await self._transport.unary(self._stub.GetQuotas, request)
        return found

    async def set(
        self, project: pb.Project | str, limits: Mapping[str, int], *, request_id: str | None = None
    ) -> pb.Quotas:
        """*limits*: resource ("instances", "vcpus", …) → limit, -1 for none. Those not named keep theirs."""
        request = pb.SetQuotasRequest(
            project=name_of(project),
            quotas=[pb.Quota(resource=resource, limit=limit) for resource, limit in limits.items()],
            request_id=request_id_or_new(request_id),
        )
        changed: pb.Quotas = await self._transport.unary(self._stub.SetQuotas, request)
        return changed

    async def get_default(self) -> pb.Quotas:
        """The limits that a new project is given."""
        found: pb.Quotas = await self._transport.unary(self._stub.GetDefaultQuotas, pb.GetDefaultQuotasRequest())
        return found

    async def set_default(self, limits: Mapping[str, int], *, request_id: str | None = None) -> pb.Quotas:
        """As `set`, for projects that are made from now on."""
        request = pb.SetDefaultQuotasRequest(
            quotas=[pb.Quota(resource=resource, limit=limit) for resource, limit in limits.items()],
            request_id=request_id_or_new(request_id),
        )
        changed: pb.Quotas = await self._transport.unary(self._stub.SetDefaultQuotas, request)
        return changed


class Tokens:
    """Access tokens, for other programs. A client gets its own by itself."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._stub = IdentityServiceStub(transport.channel)

    async def create(self, user: str, password: str, project: str = "") -> pb.Token:
        """Raises Unauthenticated for a wrong password."""
        request = pb.CreateTokenRequest(user=user, password=password, project=project)
        token: pb.Token = await self._transport.with_tokens(NoToken()).unary(self._stub.CreateToken, request)
        return token

    async def revoke(self, access_token: str) -> None:
        """Ends it before its time."""
        await self._transport.unary(self._stub.RevokeToken, pb.RevokeTokenRequest(access_token=access_token))
