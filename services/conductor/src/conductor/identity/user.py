"""The user: a name, a password, and roles in projects or in the whole cloud."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from uuid import UUID

from cirra.identity.v1 import events_pb2 as pb
from cirra.identity.v1.identity_pb2 import Principal, Role, RoleBinding
from conductor import references
from conductor.requests import require_live
from core.aggregate import Aggregate, applies, constrains
from core.errors import PermissionDenied
from core.eventlog.types import Constraint, UniqueClaim, UniqueRelease

NAMES = "user-name"


class User(Aggregate, kind="user"):
    """`roles`: (project id, role); the project is "" for the whole cloud."""

    display_name: str = ""
    # Argon2id in PHC string format; empty once the user is deleted and its key destroyed.
    password_hash: bytes = b""
    roles: set[tuple[str, Role.ValueType]] = field(default_factory=set)
    deleted: bool = False

    @property
    def resource_name(self) -> str:
        return f"users/{self.id}"

    @property
    def projects(self) -> list[str]:
        """The projects that the user has a role in."""
        return sorted({project for project, _ in self.roles if project})

    @classmethod
    def create(cls, user_id: UUID, display_name: str, password_hash: bytes) -> User:
        user = cls.new(user_id)
        user.record(pb.UserCreated(display_name=display_name, password_hash=password_hash))
        return user

    def grant(self, binding: RoleBinding) -> None:
        """A role that the user has already changes nothing. Raises NotFound when deleted."""
        if (binding.project_id, binding.role) not in require_live(self).roles:
            self.record(pb.UserRoleGranted(binding=binding))

    def revoke(self, binding: RoleBinding) -> None:
        """A role that the user has not changes nothing. Raises NotFound when deleted."""
        if (binding.project_id, binding.role) in require_live(self).roles:
            self.record(pb.UserRoleRevoked(binding=binding))

    def delete(self) -> None:
        """Refused by the log while the user has key pairs. Raises NotFound when deleted."""
        require_live(self).record(pb.UserDeleted(display_name=self.display_name))

    def principal(self, project_id: str) -> Principal:
        """The user at work in a project ("": in none), with the roles that count there.

        Raises PermissionDenied without any role there.
        """
        roles = sorted({role for project, role in self.roles if project in ("", project_id)})
        if project_id and not roles:
            raise self.no_role()
        return Principal(user_id=str(self.id), user_name=self.display_name, project_id=project_id, roles=roles)

    def no_role(self) -> PermissionDenied:
        """Also said of a project that does not exist: whether it does is not told."""
        return PermissionDenied(
            f"{self.display_name} has no role in this project, or there is no such project",
            reason="NO_ROLE_IN_PROJECT",
            remedy="name another project, or ask an administrator for a role",
        )

    @applies(pb.UserCreated)
    def _created(self, event: pb.UserCreated) -> None:
        self.display_name, self.password_hash = event.display_name, event.password_hash

    @applies(pb.UserRoleGranted)
    def _role_granted(self, event: pb.UserRoleGranted) -> None:
        self.roles.add((event.binding.project_id, event.binding.role))

    @applies(pb.UserRoleRevoked)
    def _role_revoked(self, event: pb.UserRoleRevoked) -> None:
        self.roles.discard((event.binding.project_id, event.binding.role))

    @applies(pb.UserDeleted)
    def _deleted(self, event: pb.UserDeleted) -> None:
        self.deleted = True


@constrains(pb.UserCreated)
def _begins(user_id: UUID, event: pb.UserCreated) -> Iterator[Constraint]:
    yield UniqueClaim(NAMES, event.display_name, str(user_id))


@constrains(pb.UserDeleted)
def _ends(user_id: UUID, event: pb.UserDeleted) -> Iterator[Constraint]:
    yield UniqueRelease(NAMES, event.display_name, str(user_id))
    yield from references.gone(references.USER_KEY_PAIRS, str(user_id))
