"""`cirra network`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from cirra_sdk.cli import named, options
from cirra_sdk.cli.command import Session, command, each, group
from cirra_sdk.cli.report import UsageError
from cirra_sdk.cli.resource import one
from cirra_sdk.cli.waiting import take

networks = group("network", "Segments that servers are plugged into.")


class Type(StrEnum):
    FLAT = "flat"
    VLAN = "vlan"
    VXLAN = "vxlan"


@command(networks, "create")
async def create_network(
    session: Session,
    *,
    name: options.NewName,
    type: Annotated[Type | None, typer.Option("--type", help="The cloud's choice unless told.")] = None,
    physical_network: Annotated[
        str,
        typer.Option(metavar="LABEL", help="The provider's segment of a flat or VLAN network (administrators)."),
    ] = "",
    segment: Annotated[
        int,
        typer.Option(
            "--segment", metavar="NUMBER", min=0, help="Of the VLAN or VXLAN; 0: a free one (administrators)."
        ),
    ] = 0,
    mtu: Annotated[int, typer.Option("--mtu", metavar="OCTETS", min=0, help="0: the cloud's choice.")] = 0,
    shared: Annotated[bool, typer.Option("--shared", help="For every project (administrators).")] = False,
    external: Annotated[
        bool, typer.Option("--external", help="The way out of routers, and a pool of floating IPs (administrators).")
    ] = False,
) -> None:
    """Make a network."""
    from cirra.network.v1 import network_pb2 as pb

    made = await session.client.networks.create(
        name,
        type=pb.NETWORK_TYPE_UNSPECIFIED if type is None else pb.NetworkType.Value(f"NETWORK_TYPE_{type.name}"),
        physical_network=physical_network,
        segmentation_id=segment,
        mtu=mtu,
        shared=shared,
        external=external,
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
