"""`cirra server`: virtual machines."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cirra_sdk.cli import named, options
from cirra_sdk.cli.command import Session, command, each, group
from cirra_sdk.cli.completing import after_key, names_of, words
from cirra_sdk.cli.report import UsageError
from cirra_sdk.cli.resource import one
from cirra_sdk.cli.waiting import take, waited

if TYPE_CHECKING:
    from rich.text import Text

    from cirra.compute.v1.compute_pb2 import Instance, InstanceNic
    from cirra.operations.v1.operations_pb2 import Operation

app = group("server", "Virtual machines.")

_NIC_FIELDS = {
    "net": "network",
    "network": "network",
    "net-id": "network",
    "ip": "fixed_ip",
    "v4-fixed-ip": "fixed_ip",
    "port": "port",
    "port-id": "port",
}

Networks = Annotated[
    list[str],
    typer.Option(
        "--network",
        default_factory=list,
        show_default=False,
        help="A NIC on this network; may be repeated.",
        autocompletion=names_of("networks"),
    ),
]
Nics = Annotated[
    list[str],
    typer.Option(
        "--nic",
        metavar="net=NETWORK,ip=ADDRESS",
        default_factory=list,
        show_default=False,
        help="A NIC with an address, or with port=PORT; may be repeated.",
        autocompletion=after_key(net="networks", port="ports"),
    ),
]
Tags = Annotated[
    list[str],
    typer.Option("--tag", default_factory=list, show_default=False, help="A label to put on it; may be repeated."),
]
Hints = Annotated[
    list[str],
    typer.Option(
        "--hint",
        metavar="KEY=VALUE",
        default_factory=list,
        show_default=False,
        help="To the scheduler: group=SERVER-GROUP; may be repeated.",
        autocompletion=after_key(group="server_groups"),
    ),
]
SecurityGroups = Annotated[
    list[str],
    typer.Option(
        "--security-group",
        metavar="GROUP",
        default_factory=list,
        show_default=False,
        help="What its NICs on networks let pass; default unless told; may be repeated.",
        autocompletion=names_of("security_groups"),
    ),
]
UserData = Annotated[Path | None, typer.Option(metavar="FILE", help="What cloud-init shall run; -: stdin.")]


@command(app, "create")
async def create(
    session: Session,
    *,
    name: options.NewName,
    flavor: Annotated[str, typer.Option(help="Its size.", autocompletion=names_of("flavors"))],
    image: Annotated[str, typer.Option(help="What its disk starts from.", autocompletion=names_of("images"))],
    network: Networks,
    nic: Nics,
    key_name: Annotated[
        str, typer.Option(help="The key pair to log in with.", autocompletion=names_of("key_pairs"))
    ] = "",
    user_data: UserData = None,
    properties: options.Properties,
    tag: Tags,
    availability_zone: Annotated[
        str,
        typer.Option(
            metavar="ZONE[:HOST]",
            help="Where; ZONE:HOST names the one host (administrators).",
            autocompletion=names_of("zones"),
        ),
    ] = "",
    security_group: SecurityGroups,
    hint: Hints,
    at_least: Annotated[int, typer.Option("--min", metavar="N", min=1, help="With --max: none, if fewer fit.")] = 1,
    at_most: Annotated[
        int, typer.Option("--max", metavar="N", min=1, help="Several alike: NAME-1, NAME-2, … as many as quotas allow.")
    ] = 1,
    wait: options.Wait = False,
    timeout_s: options.Timeout = 0,
) -> None:
    """Build a server, or several, and show what is built."""
    if not (network or nic):
        raise UsageError("it would be on no network", remedy="give --network NAME; what there is: `cirra network list`")
    wanted: dict[str, Any] = dict(
        flavor=flavor,
        image=image,
        nics=[_nic(text) for text in nic],
        networks=network,
        key_pair=key_name,
        user_data=options.content(user_data),
        metadata=options.pairs(properties),
        tags=tag,
        availability_zone=availability_zone,
        security_groups=security_group,
        hints=options.pairs(hint, "--hint"),
    )
    at_most = max(at_least, at_most)
    if at_most > 1:
        operations = await session.client.instances.create_many(name, min_count=at_least, max_count=at_most, **wanted)
    else:
        operations = [await session.client.instances.create(name, **wanted)]
    await _follow(session, operations, wait, timeout_s, several=at_most > 1)


async def _follow(
    session: Session, operations: Sequence[Operation], wait: bool, timeout_s: float, *, several: bool
) -> None:
    """Waits for what is built, or says how to; shows a server whole, or a table where several were asked for."""
    for operation in operations:
        if wait:
            await waited(session, operation, timeout_s)
        else:
            session.output.note(f"building; follow it: cirra operation watch {operation.uid}")
    built = [await session.client.instances.get(operation.target) for operation in operations]
    if not several:
        await show_instance(session, built[0])
        return
    from cirra_sdk.cli.tables import SERVERS

    session.output.resources(built, SERVERS)


@command(app, "show")
async def show(
    session: Session,
    *,
    name: named.Server,
    as_of: options.AsOf = "",
) -> None:
    """Show a server: state, addresses (allocated, leased, seen), whether it fetched its metadata, its fault."""
    await show_instance(session, await one(session, session.client.instances, name, as_of))


@command(app, "list")
async def list_servers(
    session: Session,
    *,
    all_projects: Annotated[bool, typer.Option("--all-projects", help="Of every project (administrators).")] = False,
    host: Annotated[
        str, typer.Option(help="Those on this host (administrators).", autocompletion=names_of("hosts"))
    ] = "",
    name: Annotated[str, typer.Option(help="Those of this name.")] = "",
    status: Annotated[
        str,
        typer.Option(
            help="Those that are ACTIVE, BUILD, SHUTOFF or ERROR.",
            autocompletion=words("ACTIVE", "BUILD", "SHUTOFF", "ERROR"),
        ),
    ] = "",
    long: Annotated[bool, typer.Option("--long", help="More columns.")] = False,
    limit: options.Limit = 0,
) -> None:
    """List servers."""
    from cirra.compute.v1.compute_pb2 import InstanceStatus
    from cirra_sdk.cli.tables import SERVERS, SERVERS_LONG

    found = session.client.instances.list(
        all_projects=all_projects,
        host=host,
        display_name=name,
        status=options.enum(InstanceStatus, status, "--status"),
    )
    session.output.resources(await take(found, limit), SERVERS_LONG if long else SERVERS)


@command(app, "delete")
async def delete(
    session: Session, *, names: named.Servers, wait: options.Wait = False, timeout_s: options.Timeout = 0
) -> None:
    """Delete servers, whatever their status."""

    async def delete_one(name: str) -> None:
        operation = await session.client.instances.delete(name)
        if wait:
            operation = await waited(session, operation, timeout_s)
        else:
            session.output.note(f"deleting {name}; follow it: cirra operation watch {operation.uid}")
        if not session.output.is_table:
            session.output.resource(operation)

    await each(names, delete_one)


@command(app, "log")
async def console_log(
    session: Session,
    *,
    name: named.Server,
    lines: Annotated[int, typer.Option("-n", "--lines", metavar="N", min=0, help="The last so many; 0: all.")] = 0,
) -> None:
    """Print what the guest wrote to its serial console: the end of it, 100 KiB at most."""
    from rich.text import Text

    found = await session.client.instances.console_output(name, lines=lines)
    # A guest may write what a terminal would obey.
    shown = "".join(char for char in found.output if char.isprintable() or char in "\n\t")
    session.output.resource(found, Text(shown.removesuffix("\n"), no_wrap=True, overflow="ignore"))


@command(app, "password")
async def password(session: Session, *, name: named.Server) -> None:
    """Print the password that a guest posted. If its key pair encrypts it: | base64 -d | openssl pkeyutl -decrypt …"""
    from rich.text import Text

    posted = await session.client.instances.password(name)
    text = posted.password.decode(errors="backslashreplace")
    session.output.resource(posted, Text(text, no_wrap=True, overflow="ignore"))


@command(app, "watch")
async def watch(
    session: Session,
    *,
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="Only this one.", autocompletion=names_of("instances"))
    ] = "",
) -> None:
    """Print servers as they are, then each change, until interrupted (or until the one named is gone)."""
    async with aclosing(session.client.instances.watch(name)) as changes:
        async for change in changes:
            session.output.stream(change.instance, _line(change.instance, gone=change.deleted), gone=change.deleted)


def _nic(text: str) -> InstanceNic:
    from cirra.compute.v1.compute_pb2 import InstanceNic

    told = options.fields(text, "--nic", _NIC_FIELDS)
    return InstanceNic(network=told.get("network", ""), port=told.get("port", ""), fixed_ip=told.get("fixed_ip", ""))


async def show_instance(session: Session, instance: Instance) -> None:
    from cirra_sdk.cli.instance_view import instance_tables, names_of

    names = await names_of(session.client, instance) if session.output.is_table else {}
    session.output.resource(instance, *instance_tables(instance, names))


def _line(instance: Instance, *, gone: bool) -> Text:
    from rich.text import Text

    from cirra_sdk.cli.output import state_text
    from cirra_sdk.cli.plain import enum_text, time_text
    from cirra_sdk.cli.tables import addresses

    state = state_text("DELETED" if gone else enum_text(instance, "status"))
    told: list[Any] = [instance.task_state, enum_text(instance, "power_state"), addresses(instance)]
    begin = f"{time_text(instance.update_time)}  {instance.display_name:<20} "
    return Text.assemble(begin, state, "  ".join(["", *filter(None, told)]))
