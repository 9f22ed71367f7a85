"""Who may do what, as the domain sees it. The gateway has asked already; the domain decides."""

from __future__ import annotations

from cirra.identity.v1.identity_pb2 import ROLE_ADMIN, ROLE_MEMBER, Principal
from core.errors import FailedPrecondition, NotFound, PermissionDenied


def is_admin(principal: Principal) -> bool:
    return ROLE_ADMIN in principal.roles


def require_admin(principal: Principal) -> None:
    """Raises PermissionDenied unless the caller operates the cloud."""
    if not is_admin(principal):
        raise PermissionDenied("only an administrator of the cloud may do this", remedy="log in as one")


def require_project(principal: Principal) -> str:
    """The project that the caller may change. Raises PermissionDenied, FailedPrecondition for an unscoped token."""
    if not (is_admin(principal) or ROLE_MEMBER in principal.roles):
        raise PermissionDenied(
            "the role of a reader does not allow changes", remedy="ask for the role of a member in this project"
        )
    if not principal.project_id:
        raise FailedPrecondition(
            "the token is for no project", reason="UNSCOPED_TOKEN", remedy="log in again and name a project"
        )
    return principal.project_id


def require_owner(principal: Principal, project_id: str, what: str) -> None:
    """Lets the members of the owning project pass, and administrators. `what`: "image 0190…".

    Raises NotFound for what another project owns: its existence is not told.
    """
    if is_admin(principal):
        return
    if require_project(principal) != project_id:
        raise NotFound(f"no {what}", remedy="check the name: only its own project changes it")
