"""`cirra network`."""

from __future__ import annotations

from typing import Annotated

import typer

from cirra_sdk.cli import named, options
from cirra_sdk.cli.command import Session, command, each, group
from cirra_sdk.cli.report import UsageError
from cirra_sdk.cli.resource import one
from cirra_sdk.cli.waiting import take

networks = group("network", "Segments that servers are plugged into.")


@command(networks, "create")
async def create_network(
    session: Session,
    *,
    name: options.NewName,
    physical_network: Annotated[
        str, typer.Option(metavar="LABEL", help="The provider's segment that it is on; else it has no uplink.")
    ] = "",
    mtu: Annotated[int, typer.Option("--mtu", metavar="OCTETS", min=0, help="0: the cloud's choice.")] = 0,
    shared: Annotated[bool, typer.Option("--shared", help="For every project (administrators).")] = False,
    external: Annotated[
        bool, typer.Option("--external", help="The way out of routers, and a pool of floating IPs (administrators).")
    ] = False,
) -> None:
    """Make a flat network."""
    made = await session.client.networks.create(
        name, physical_network=physical_network, mtu=mtu, shared=shared, external=external
    )
    session.output.resource(made)


@command(networks, "list")
async def list_networks(session: Session, *, limit: options.Limit = 0) -> None:
    """List networks."""
    from cirra_sdk.cli.tables import NETWORKS

    session.output.resources(await take(session.client.networks.list(), limit), NETWORKS)


@command(networks, "show")
async def show_network(session: Session, *, name: named.Network, as_of: options.AsOf = "") -> None:
    """Show a network."""
    session.output.resource(await one(session, session.client.networks, name, as_of))


@command(networks, "set")
async def set_network(
    session: Session,
    *,
    name: named.Network,
    new_name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="What to call it.")] = None,
    mtu: Annotated[int | None, typer.Option("--mtu", metavar="OCTETS", help="Guests learn of it by DHCP.")] = None,
) -> None:
    """Change a network."""
    if new_name is None and mtu is None:
        raise UsageError("nothing to set: give --name or --mtu")
    session.output.resource(await session.client.networks.update(name, display_name=new_name, mtu=mtu))


@command(networks, "delete")
async def delete_networks(session: Session, *, names: named.Networks) -> None:
    """Delete networks that no port is on; their subnets go with them."""
    await each(names, session.client.networks.delete)
