"""`cirra host` and `cirra service`: for administrators."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cirra_sdk.cli import named, options
from cirra_sdk.cli.command import Session, command, group
from cirra_sdk.cli.completing import names_of
from cirra_sdk.cli.report import UsageError
from cirra_sdk.cli.waiting import take

Ratio = Annotated[
    float | None,
    typer.Option(metavar="RATIO", min=0, help="0: none of its own, but that of its aggregates or the cloud's."),
]
Reserved = Annotated[int | None, typer.Option(metavar="N", min=0, help="Kept for the host itself.")]

hosts = group("host", "Machines that run servers (administrators).")
services = group("service", "The parts that run the cloud (administrators).")


@command(hosts, "list")
async def list_hosts(session: Session, *, limit: options.Limit = 0) -> None:
    """List hosts with what is used of what they have."""
    from cirra_sdk.cli.tables import HOSTS

    session.output.resources(await take(session.client.hosts.list(), limit), HOSTS)


@command(hosts, "show")
async def show_host(session: Session, *, name: named.Host) -> None:
    """Show a host."""
    session.output.resource(await session.client.hosts.get(name))


@command(hosts, "enable")
async def enable(session: Session, *, name: named.Host) -> None:
    """Let a host take new servers again."""
    session.output.resource(await session.client.hosts.enable(name))


@command(hosts, "disable")
async def disable(
    session: Session, *, name: named.Host, reason: Annotated[str, typer.Option(help="Why: others will ask.")]
) -> None:
    """Let a host take no new servers; those it has go on."""
    session.output.resource(await session.client.hosts.disable(name, reason))


@command(hosts, "differences")
async def differences(session: Session, *, name: named.Host) -> None:
    """List what a host has against what the log says of it. After a restore it acts on nothing until you accept it."""
    from cirra_sdk.cli.tables import DIFFERENCES

    listed = await session.client.hosts.differences(name)
    if not session.output.is_table:
        session.output.resource(listed)
        return
    session.output.resources([*listed.differences], DIFFERENCES)
    session.output.note(_what_next(listed))


def _what_next(listed: Any) -> str:
    if not listed.observe_only:
        return "the host acts: nothing is to be accepted"
    if listed.awaited_agents:
        return f"not told yet by: {', '.join(listed.awaited_agents)}; list again"
    host = listed.name.rpartition("/")[2]
    return (
        "what is UNKNOWN stays as it is, what is MISSING will be in ERROR, the rest is made as the cloud says; "
        f"to accept this: cirra host accept {host} --etag {listed.etag}"
    )


@command(hosts, "accept")
async def accept(
    session: Session,
    *,
    name: named.Host,
    etag: Annotated[str, typer.Option(help="Of the list that you have seen.")] = "",
    all_: Annotated[bool, typer.Option("--all", help="Whatever differs now, seen or not.")] = False,
) -> None:
    """Let a host act again, after a restore, with what differs there as `cirra host differences` lists it."""
    if bool(etag) == all_:
        raise UsageError("say what you accept: --etag of `cirra host differences`, or --all")
    accepted = etag or (await session.client.hosts.differences(name)).etag
    session.output.resource(await session.client.hosts.accept(name, accepted))


@command(hosts, "approve-evacuation")
async def approve_evacuation(
    session: Session, *, name: named.Host, reason: Annotated[str, typer.Option(help="How it was made sure.")]
) -> None:
    """Say that a host is dead which fell silent together with others, so that its servers may go elsewhere."""
    session.output.resource(await session.client.hosts.approve_evacuation(name, reason))


@command(hosts, "set")
async def set_host(
    session: Session,
    *,
    name: named.Host,
    cpu_allocation_ratio: Ratio = None,
    ram_allocation_ratio: Ratio = None,
    disk_allocation_ratio: Ratio = None,
    reserved_vcpus: Reserved = None,
    reserved_ram: Annotated[int | None, typer.Option(metavar="MIB", min=0, help="Kept for the host itself.")] = None,
    reserved_disk: Annotated[int | None, typer.Option(metavar="GIB", min=0, help="Kept for the host itself.")] = None,
) -> None:
    """Set how many times over a host's resources are given away, and what is kept for itself."""
    told = (
        cpu_allocation_ratio,
        ram_allocation_ratio,
        disk_allocation_ratio,
        reserved_vcpus,
        reserved_ram,
        reserved_disk,
    )
    if all(value is None for value in told):
        raise UsageError("nothing to set: give a ratio, such as --cpu-allocation-ratio 4, or a reserved amount")
    changed = await session.client.hosts.update(
        name,
        cpu_allocation_ratio=cpu_allocation_ratio,
        ram_allocation_ratio=ram_allocation_ratio,
        disk_allocation_ratio=disk_allocation_ratio,
        reserved_vcpus=reserved_vcpus,
        reserved_memory_mib=reserved_ram,
        reserved_disk_gib=reserved_disk,
    )
    session.output.resource(changed)


@command(hosts, "enroll-token")
async def enroll_token(
    session: Session,
    *,
    host: Annotated[str, typer.Argument(metavar="HOST", help="The name that it shall have.")],
    availability_zone: Annotated[str, typer.Option(help="Where it stands.", autocompletion=names_of("zones"))] = "",
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
