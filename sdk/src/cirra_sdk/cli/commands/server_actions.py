"""What is done to servers that are there: `cirra server start`, `add-port`, `lock`, `set` and their kin."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from cirra_sdk.cli import named, options
from cirra_sdk.cli.command import Session, command, each
from cirra_sdk.cli.commands.server import app, show_instance
from cirra_sdk.cli.completing import names_of
from cirra_sdk.cli.report import UsageError
from cirra_sdk.cli.waiting import waited

if TYPE_CHECKING:
    from cirra.operations.v1.operations_pb2 import Operation

Tags = Annotated[
    list[str], typer.Option("--tag", default_factory=list, show_default=False, help="A label; may be repeated.")
]
Keys = Annotated[
    list[str],
    typer.Option(
        "--property", metavar="KEY", default_factory=list, show_default=False, help="To remove; may be repeated."
    ),
]
Reason = Annotated[str, typer.Option(help="Why: others will ask.")]


@command(app, "start")
async def start(
    session: Session, *, names: named.Servers, wait: options.Wait = False, timeout_s: options.Timeout = 0
) -> None:
    """Start servers that are off."""
    await _begun(session, names, session.client.instances.start, "starting", wait, timeout_s)


@command(app, "stop")
async def stop(
    session: Session, *, names: named.Servers, wait: options.Wait = False, timeout_s: options.Timeout = 0
) -> None:
    """Shut servers down: each guest is asked to, and cut off if it takes too long."""
    await _begun(session, names, session.client.instances.stop, "stopping", wait, timeout_s)


@command(app, "reboot")
async def reboot(
    session: Session,
    *,
    names: named.Servers,
    hard: Annotated[bool, typer.Option("--hard", help="Cut it off without asking, and define it anew.")] = False,
    wait: options.Wait = False,
    timeout_s: options.Timeout = 0,
) -> None:
    """Reboot servers; with --hard also those that are off or in ERROR."""

    async def one(name: str) -> Operation:
        return await session.client.instances.reboot(name, hard=hard)

    await _begun(session, names, one, "rebooting", wait, timeout_s)


@command(app, "add-port")
async def add_port(
    session: Session,
    *,
    name: named.Server,
    port: Annotated[str, typer.Argument(metavar="PORT", help="Made before.", autocompletion=names_of("ports"))],
    wait: options.Wait = False,
    timeout_s: options.Timeout = 0,
) -> None:
    """Give a server one NIC more, with a port that is there; also while it runs."""

    async def one(name: str) -> Operation:
        return await session.client.instances.attach_interface(name, port=port)

    await _begun(session, [name], one, "attaching to", wait, timeout_s)


@command(app, "add-network")
async def add_network(
    session: Session,
    *,
    name: named.Server,
    network: Annotated[
        str, typer.Argument(metavar="NETWORK", help="To plug it into.", autocompletion=names_of("networks"))
    ],
    fixed_ip: Annotated[str, typer.Option(metavar="ADDRESS", help="The cloud's choice unless told.")] = "",
    wait: options.Wait = False,
    timeout_s: options.Timeout = 0,
) -> None:
    """Give a server one NIC more, on a network, with a port of its own; also while it runs."""

    async def one(name: str) -> Operation:
        return await session.client.instances.attach_interface(name, network=network, fixed_ip=fixed_ip)

    await _begun(session, [name], one, "attaching to", wait, timeout_s)


@command(app, "remove-port")
async def remove_port(
    session: Session,
    *,
    name: named.Server,
    port: Annotated[str, typer.Argument(metavar="PORT", help="One of its own.", autocompletion=names_of("ports"))],
    wait: options.Wait = False,
    timeout_s: options.Timeout = 0,
) -> None:
    """Take a NIC from a server, also while it runs. The port goes too, if it was made for the server."""

    async def one(name: str) -> Operation:
        return await session.client.instances.detach_interface(name, port)

    await _begun(session, [name], one, "detaching from", wait, timeout_s)


@command(app, "lock")
async def lock(session: Session, *, names: named.Servers, reason: Reason = "") -> None:
    """Keep all but administrators from acting on servers."""

    async def one(name: str) -> None:
        await show_instance(session, await session.client.instances.lock(name, reason))

    await each(names, one)


@command(app, "unlock")
async def unlock(session: Session, *, names: named.Servers) -> None:
    """Undo lock."""

    async def one(name: str) -> None:
        await show_instance(session, await session.client.instances.unlock(name))

    await each(names, one)


@command(app, "set")
async def set_server(
    session: Session,
    *,
    name: named.Server,
    new_name: Annotated[str | None, typer.Option("--name", help="What to call it from now on.")] = None,
    properties: options.Properties,
    tag: Tags,
) -> None:
    """Rename a server, set its properties, put labels on it; its guest keeps its hostname."""
    if new_name is None and not (properties or tag):
        raise UsageError("nothing is given: say --name, --property or --tag")
    instances = session.client.instances
    known = await instances.get(name)
    changed = await instances.update(
        known,
        display_name=new_name,
        metadata=options.pairs(properties),
        # What others do to its labels meanwhile is not lost: the etag is of when they were read.
        tags=list(dict.fromkeys([*known.tags, *tag])) if tag else None,
        etag=known.etag if tag else "",
    )
    await show_instance(session, changed)


@command(app, "unset")
async def unset(session: Session, *, name: named.Server, keys: Keys, tag: Tags) -> None:
    """Remove properties and labels of a server."""
    if not (keys or tag):
        raise UsageError("nothing is given: say --property or --tag")
    instances = session.client.instances
    known = await instances.get(name)
    changed = await instances.update(
        known,
        without=keys,
        tags=[each for each in known.tags if each not in tag] if tag else None,
        etag=known.etag if tag else "",
    )
    await show_instance(session, changed)


async def _begun(
    session: Session,
    names: list[str],
    begin: Callable[[str], Awaitable[Operation]],
    doing: str,
    wait: bool,
    timeout_s: float,
) -> None:
    async def one(name: str) -> None:
        operation = await begin(name)
        if wait:
            operation = await waited(session, operation, timeout_s)
        else:
            session.output.note(f"{doing} {name}; follow it: cirra operation watch {operation.uid}")
        if not session.output.is_table:
            session.output.resource(operation)

    await each(names, one)
