"""`cirra host` and `cirra service`: for administrators."""

from __future__ import annotations

from typing import Annotated

import typer

from cirra_sdk.cli import options
from cirra_sdk.cli.command import Session, command, group
from cirra_sdk.cli.waiting import take

hosts = group("host", "Machines that run servers (administrators).")
services = group("service", "The parts that run the cloud (administrators).")


@command(hosts, "list")
async def list_hosts(session: Session, *, limit: options.Limit = 0) -> None:
    """List hosts with what is used of what they have."""
    from cirra_sdk.cli.tables import HOSTS

    session.output.resources(await take(session.client.hosts.list(), limit), HOSTS)


@command(hosts, "show")
async def show_host(session: Session, *, name: options.Name) -> None:
    """Show a host."""
    session.output.resource(await session.client.hosts.get(name))


@command(hosts, "enable")
async def enable(session: Session, *, name: options.Name) -> None:
    """Let a host take new servers again."""
    session.output.resource(await session.client.hosts.enable(name))


@command(hosts, "disable")
async def disable(
    session: Session, *, name: options.Name, reason: Annotated[str, typer.Option(help="Why: others will ask.")]
) -> None:
    """Let a host take no new servers; those it has go on."""
    session.output.resource(await session.client.hosts.disable(name, reason))


@command(hosts, "approve-evacuation")
async def approve_evacuation(
    session: Session, *, name: options.Name, reason: Annotated[str, typer.Option(help="How it was made sure.")]
) -> None:
    """Say that a host is dead which fell silent together with others, so that its servers may go elsewhere."""
    session.output.resource(await session.client.hosts.approve_evacuation(name, reason))


@command(hosts, "enroll-token")
async def enroll_token(
    session: Session,
    *,
    host: Annotated[str, typer.Argument(metavar="HOST", help="The name that it shall have.")],
    availability_zone: Annotated[str, typer.Option(help="Where it stands.")] = "",
    ttl: Annotated[int, typer.Option("--ttl", metavar="SECONDS", min=0, help="How long it is good; 0: an hour.")] = 0,
) -> None:
    """Make a token with which one machine joins the cloud, once. `-o name` prints nothing but the token."""
    token = await session.client.enrolment_tokens.create(host, availability_zone=availability_zone, ttl_seconds=ttl)
    session.output.resource(token)
    session.output.note("it is shown this once")


@command(services, "list")
async def list_services(session: Session) -> None:
    """List every agent and replica that was ever heard and has not left in order, with its present state."""
    from cirra_sdk.cli.tables import SERVICES

    session.output.resources(await session.client.services.list(), SERVICES)
