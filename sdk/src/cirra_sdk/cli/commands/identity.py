"""`cirra project`, `cirra user` and `cirra quota`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cirra_sdk.cli import named, options
from cirra_sdk.cli.command import Session, command, each, group
from cirra_sdk.cli.completing import names_of
from cirra_sdk.cli.report import UsageError
from cirra_sdk.cli.waiting import take

if TYPE_CHECKING:
    from cirra.identity.v1.identity_pb2 import Role as Number

projects = group("project", "What owns servers, networks and quotas.")
users = group("user", "Who may log in, and to do what.")
quotas = group("quota", "What a project may have.")


class Role(StrEnum):
    READER = "reader"
    MEMBER = "member"
    ADMIN = "admin"

    @property
    def number(self) -> Number.ValueType:
        from cirra.identity.v1.identity_pb2 import Role as Numbers

        return Numbers.Value(f"ROLE_{self.name}")


RoleOption = Annotated[Role, typer.Option("--role", help="reader and member: of a project; admin: of the whole cloud.")]
ProjectOption = Annotated[
    str,
    typer.Option(
        "--project", help="The project that the role is in; none for admin.", autocompletion=names_of("projects")
    ),
]
PasswordFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Has the password; -: stdin. You are asked for it otherwise.")
]


@command(projects, "create")
async def create_project(
    session: Session,
    *,
    name: options.NewName,
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
) -> None:
    """Make a project (administrators)."""
    session.output.resource(await session.client.projects.create(name, description=description))


@command(projects, "list")
async def list_projects(session: Session, *, limit: options.Limit = 0) -> None:
    """List projects."""
    from cirra_sdk.cli.tables import PROJECTS

    session.output.resources(await take(session.client.projects.list(), limit), PROJECTS)


@command(projects, "show")
async def show_project(session: Session, *, name: named.Project) -> None:
    """Show a project."""
    session.output.resource(await session.client.projects.get(name))


@command(projects, "delete")
async def delete_projects(session: Session, *, names: named.Projects) -> None:
    """Delete projects that own nothing any more (administrators)."""
    await each(names, session.client.projects.delete)


@command(users, "create")
async def create_user(
    session: Session,
    *,
    name: options.NewName,
    password_file: PasswordFile = None,
    role: Annotated[Role | None, typer.Option("--role", help="Grant it at once.")] = None,
    project: ProjectOption = "",
) -> None:
    """Make a user (administrators)."""
    if password_file is None:
        password = options.secret("Password", confirm=True)
    else:
        password = options.content(password_file).decode().rstrip("\r\n")
    made = await session.client.users.create(name, password)
    if role is not None:
        made = await session.client.users.grant_role(made, role.number, project)
    session.output.resource(made)


@command(users, "list")
async def list_users(session: Session, *, limit: options.Limit = 0) -> None:
    """List users (oneself, unless one is an administrator)."""
    from cirra_sdk.cli.tables import USERS

    session.output.resources(await take(session.client.users.list(), limit), USERS)


@command(users, "show")
async def show_user(session: Session, *, name: named.User) -> None:
    """Show a user with its roles."""
    session.output.resource(await session.client.users.get(name))


@command(users, "delete")
async def delete_users(session: Session, *, names: named.Users) -> None:
    """Delete users (administrators); what they made stays with its project."""
    await each(names, session.client.users.delete)


@command(users, "grant")
async def grant(session: Session, *, name: named.User, role: RoleOption, project: ProjectOption = "") -> None:
    """Give a user a role (administrators)."""
    session.output.resource(await session.client.users.grant_role(name, role.number, project))


@command(users, "revoke")
async def revoke(session: Session, *, name: named.User, role: RoleOption, project: ProjectOption = "") -> None:
    """Take a role from a user (administrators)."""
    session.output.resource(await session.client.users.revoke_role(name, role.number, project))


DefaultOption = Annotated[bool, typer.Option("--default", help="What new projects are given.")]


def _limit(text: str) -> int:
    """A limit as people write it; -1 is none."""
    if text in ("-1", "unlimited"):
        return -1
    if not text.isdecimal():
        raise typer.BadParameter(f"{text!r}: give a number, or unlimited")
    return int(text)


def _limit_option(flag: str, what: str) -> Any:
    return typer.Option(
        flag, metavar="N", parser=_limit, show_default=False, help=f"{what} (-1 or unlimited: no limit)."
    )


@command(quotas, "show")
async def show_quotas(
    session: Session,
    *,
    project: Annotated[
        str, typer.Argument(metavar="[PROJECT]", help="Your own unless told.", autocompletion=names_of("projects"))
    ] = "",
    default: DefaultOption = False,
) -> None:
    """Show limits and usage."""
    from cirra_sdk.cli.output import list_table
    from cirra_sdk.cli.tables import QUOTAS

    _not_both(project, default)
    api = session.client.quotas
    found = await (api.get_default() if default else api.get(project))
    session.output.resource(found, list_table(found.quotas, QUOTAS))


@command(quotas, "set")
async def set_quotas(
    session: Session,
    *,
    project: Annotated[
        str, typer.Argument(metavar="[PROJECT]", help="Whose limits.", autocompletion=names_of("projects"))
    ] = "",
    default: DefaultOption = False,
    instances: Annotated[int | None, _limit_option("--instances", "Servers")] = None,
    vcpus: Annotated[int | None, _limit_option("--vcpus", "Their vCPUs")] = None,
    memory_mib: Annotated[int | None, _limit_option("--ram", "Their memory in MiB")] = None,
    volumes: Annotated[int | None, _limit_option("--volumes", "Volumes")] = None,
    gigabytes: Annotated[int | None, _limit_option("--gigabytes", "Their size in GiB")] = None,
    floating_ips: Annotated[int | None, _limit_option("--floating-ips", "Floating IPs")] = None,
    networks: Annotated[int | None, _limit_option("--networks", "Networks")] = None,
    routers: Annotated[int | None, _limit_option("--routers", "Routers")] = None,
    ports: Annotated[int | None, _limit_option("--ports", "Ports")] = None,
    security_groups: Annotated[int | None, _limit_option("--security-groups", "Security groups")] = None,
    key_pairs: Annotated[int | None, _limit_option("--key-pairs", "Key pairs")] = None,
) -> None:
    """Set the limits named (administrators); the others stay."""
    from cirra_sdk.cli.output import list_table
    from cirra_sdk.cli.tables import QUOTAS

    told = {
        "instances": instances,
        "vcpus": vcpus,
        "memory_mib": memory_mib,
        "volumes": volumes,
        "gigabytes": gigabytes,
        "floating_ips": floating_ips,
        "networks": networks,
        "routers": routers,
        "ports": ports,
        "security_groups": security_groups,
        "key_pairs": key_pairs,
    }
    limits = {resource: limit for resource, limit in told.items() if limit is not None}
    if not limits:
        raise UsageError("no limit is named: give --instances, --vcpus, --ram, …")
    _not_both(project, default)
    if not (project or default):
        raise UsageError("whose limits? Name a project, or say --default")
    api = session.client.quotas
    changed = await (api.set_default(limits) if default else api.set(project, limits))
    session.output.resource(changed, list_table(changed.quotas, QUOTAS))


def _not_both(project: str, default: bool) -> None:
    if project and default:
        raise UsageError("name a project or say --default, not both")
