"""Who a name and a password are, and in which project they work."""

from __future__ import annotations

from uuid import UUID

from cirra.identity.v1.identity_pb2 import Principal
from conductor.identity import project as projects
from conductor.identity import user as users
from conductor.identity.passwords import MAX_LENGTH, Passwords
from conductor.identity.project import Project
from conductor.identity.user import User
from core.errors import Unauthenticated
from core.fields import is_name
from core.ids import last_segment, parse_uuid
from core.repository import Repository


class Login:
    """An unknown user and a wrong password are one error, and take the same time."""

    def __init__(self, repository: Repository, passwords: Passwords) -> None:
        self._repository = repository
        self._passwords = passwords

    async def verify(self, name: str, password: str, project: str) -> Principal:
        """The principal that a token is made for.

        `project`: a resource name, uid or display name; empty: the only project that the user has a role in, else
        none. Raises Unauthenticated; PermissionDenied without a role in the project.
        """
        user = await self._user(name)
        password_hash = None if user is None or user.deleted else user.password_hash
        if not await self._passwords.verify(password_hash, password[:MAX_LENGTH]) or user is None:
            raise Unauthenticated(
                "wrong user name or password", reason="WRONG_CREDENTIALS", remedy="check both, and the cloud's address"
            )
        if not project:
            return user.principal(await self._only_project(user))
        found = await self._project(project)
        if found is None:
            raise user.no_role()
        return user.principal(str(found.id))

    async def _user(self, name: str) -> User | None:
        owner = await self._owner(users.NAMES, name)
        return None if owner is None else await self._repository.find(User, owner)

    async def _project(self, name: str) -> Project | None:
        project_id = parse_uuid(last_segment(name))
        if project_id is None:
            project_id = await self._owner(projects.NAMES, name)
        found = None if project_id is None else await self._repository.find(Project, project_id)
        return None if found is None or found.deleted else found

    async def _owner(self, scope: str, name: str) -> UUID | None:
        # What can't be a name is nobody's, and need not be fit for a query.
        owner = await self._repository.log.unique_owner(scope, name) if is_name(name) else None
        return None if owner is None else UUID(owner)

    async def _only_project(self, user: User) -> str:
        live = [project_id for project_id in user.projects if await self._project(project_id) is not None]
        return live[0] if len(live) == 1 else ""
