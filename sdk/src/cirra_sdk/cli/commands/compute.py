"""`cirra flavor` and `cirra keypair`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cirra_sdk.cli import named, options
from cirra_sdk.cli.command import Session, command, each, group
from cirra_sdk.cli.waiting import take

flavors = group("flavor", "Sizes of servers.")
key_pairs = group("keypair", "Public ssh keys that servers are given.")


@command(flavors, "create")
async def create_flavor(
    session: Session,
    *,
    name: options.NewName,
    vcpus: Annotated[int, typer.Option("--vcpus", min=1, help="Processors.")],
    ram: Annotated[int, typer.Option("--ram", metavar="MIB", min=1, help="Memory.")],
    disk: Annotated[int, typer.Option("--disk", metavar="GIB", min=1, help="Disk.")],
    properties: options.Properties,
) -> None:
    """Make a size (administrators)."""
    session.output.resource(
        await session.client.flavors.create(
            name, vcpus=vcpus, memory_mib=ram, disk_gib=disk, extra_specs=options.pairs(properties)
        )
    )


@command(flavors, "list")
async def list_flavors(session: Session, *, limit: options.Limit = 0) -> None:
    """List sizes."""
    from cirra_sdk.cli.tables import FLAVORS

    session.output.resources(await take(session.client.flavors.list(), limit), FLAVORS)


@command(flavors, "show")
async def show_flavor(session: Session, *, name: named.Flavor) -> None:
    """Show a size."""
    session.output.resource(await session.client.flavors.get(name))


@command(flavors, "delete")
async def delete_flavors(session: Session, *, names: named.Flavors) -> None:
    """Delete sizes; servers that have them keep them."""
    await each(names, session.client.flavors.delete)


@command(key_pairs, "create")
async def create_key_pair(
    session: Session,
    *,
    name: options.NewName,
    public_key: Annotated[Path, typer.Option(metavar="FILE", help="Such as ~/.ssh/id_ed25519.pub; -: stdin.")],
) -> None:
    """Hand in a public key, for servers to let its owner in."""
    text = options.content(public_key).decode(errors="replace")
    session.output.resource(await session.client.key_pairs.create(name, text))


@command(key_pairs, "list")
async def list_key_pairs(session: Session, *, limit: options.Limit = 0) -> None:
    """List public keys."""
    from cirra_sdk.cli.tables import KEY_PAIRS

    session.output.resources(await take(session.client.key_pairs.list(), limit), KEY_PAIRS)


@command(key_pairs, "show")
async def show_key_pair(session: Session, *, name: named.KeyPair) -> None:
    """Show a public key."""
    session.output.resource(await session.client.key_pairs.get(name))


@command(key_pairs, "delete")
async def delete_key_pairs(session: Session, *, names: named.KeyPairs) -> None:
    """Delete public keys; servers that were given them keep them."""
    await each(names, session.client.key_pairs.delete)
