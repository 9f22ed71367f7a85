"""`cirra aggregate`, `cirra placement`, `cirra availability zone` and `cirra server group`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from cirra_sdk.cli import named, options
from cirra_sdk.cli.command import Session, command, each, group
from cirra_sdk.cli.completing import names_of
from cirra_sdk.cli.report import UsageError
from cirra_sdk.cli.waiting import take

aggregates = group("aggregate", "Hosts that have something in common (administrators).")
placement = group("placement", "Why servers are where they are, and where more would go (administrators).")
availability = group("availability", "Where servers can be.")
zones = group("zone", "Availability zones.")
server_groups = group("group", "Servers that are to be kept together, or apart.")
availability.add_typer(zones)


class Policy(StrEnum):
    AFFINITY = "affinity"
    ANTI_AFFINITY = "anti-affinity"
    SOFT_AFFINITY = "soft-affinity"
    SOFT_ANTI_AFFINITY = "soft-anti-affinity"


Host = Annotated[str, typer.Argument(metavar="HOST", help="The host's name.", autocompletion=names_of("hosts"))]
Zone = Annotated[
    str | None,
    typer.Option("--zone", metavar="ZONE", help="Its hosts are in this zone.", autocompletion=names_of("zones")),
]


@command(aggregates, "create")
async def create_aggregate(
    session: Session, *, name: options.NewName, zone: Zone = None, properties: options.Properties
) -> None:
    """Make an empty aggregate."""
    metadata = options.pairs(properties)
    session.output.resource(
        await session.client.aggregates.create(name, availability_zone=zone or "", metadata=metadata)
    )


@command(aggregates, "list")
async def list_aggregates(session: Session, *, limit: options.Limit = 0) -> None:
    """List aggregates."""
    from cirra_sdk.cli.tables import AGGREGATES

    session.output.resources(await take(session.client.aggregates.list(), limit), AGGREGATES)


@command(aggregates, "show")
async def show_aggregate(session: Session, *, name: named.Aggregate) -> None:
    """Show an aggregate."""
    session.output.resource(await session.client.aggregates.get(name))


@command(aggregates, "set")
async def set_aggregate(
    session: Session,
    *,
    name: named.Aggregate,
    new_name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="What to call it.")] = None,
    zone: Zone = None,
    properties: options.Properties,
) -> None:
    """Change an aggregate: its name, its zone, its metadata (what flavors' extra specs ask for)."""
    if new_name is None and zone is None and not properties:
        raise UsageError("nothing to set: give --name, --zone or --property KEY=VALUE")
    changed = await session.client.aggregates.update(
        name, display_name=new_name, availability_zone=zone, metadata=options.pairs(properties)
    )
    session.output.resource(changed)


@command(aggregates, "unset")
async def unset_aggregate(
    session: Session,
    *,
    name: named.Aggregate,
    keys: Annotated[list[str], typer.Option("--property", metavar="KEY", help="To remove; may be repeated.")],
) -> None:
    """Remove metadata of an aggregate."""
    session.output.resource(await session.client.aggregates.update(name, without=keys))


@command(aggregates, "delete")
async def delete_aggregates(session: Session, *, names: named.Aggregates) -> None:
    """Delete aggregates that have no hosts."""
    await each(names, session.client.aggregates.delete)


@command(aggregates, "add-host")
async def add_host(session: Session, *, name: named.Aggregate, host: Host) -> None:
    """Put a host into an aggregate, and so into its zone."""
    session.output.resource(await session.client.aggregates.add_host(name, host))


@command(aggregates, "remove-host")
async def remove_host(session: Session, *, name: named.Aggregate, host: Host) -> None:
    """Take a host out of an aggregate."""
    session.output.resource(await session.client.aggregates.remove_host(name, host))


@command(placement, "explain")
async def explain(
    session: Session,
    *,
    name: Annotated[
        str, typer.Argument(metavar="SERVER", help="A name or a uid.", autocompletion=names_of("instances"))
    ],
) -> None:
    """Tell why a server is where it is: each attempt, what each filter left, and how the best hosts were weighed."""
    from cirra_sdk.cli.decision_view import explanation_tables

    explanation = await session.client.placement.explain(name)
    session.output.resource(explanation, *explanation_tables(explanation))


@command(placement, "simulate")
async def simulate(
    session: Session,
    *,
    flavor: Annotated[str, typer.Option(help="The size of each.", autocompletion=names_of("flavors"))],
    count: Annotated[int, typer.Option("--count", metavar="N", min=1, max=1000, help="How many.")] = 1,
    without: Annotated[
        list[str],
        typer.Option(
            "--without",
            metavar="HOST",
            default_factory=list,
            show_default=False,
            help="A host to think away; may be repeated.",
            autocompletion=names_of("hosts"),
        ),
    ],
    image: Annotated[str, typer.Option(help="What their disks start from.", autocompletion=names_of("images"))] = "",
    network: Annotated[
        list[str],
        typer.Option(
            "--network",
            default_factory=list,
            show_default=False,
            help="A network that they are on; may be repeated.",
            autocompletion=names_of("networks"),
        ),
    ],
    availability_zone: Annotated[
        str, typer.Option("--availability-zone", "--az", help="Where.", autocompletion=names_of("zones"))
    ] = "",
    group: Annotated[
        str,
        typer.Option("--group", help="A server group that they join.", autocompletion=names_of("server_groups")),
    ] = "",
) -> None:
    """Tell how many servers would find a host, and where, without making any."""
    from cirra_sdk.cli.decision_view import simulation_tables

    simulation = await session.client.placement.simulate(
        flavor,
        count,
        image=image,
        networks=network,
        availability_zone=availability_zone,
        server_group=group,
        without_hosts=without,
    )
    session.output.resource(simulation, *simulation_tables(simulation))


@command(zones, "list")
async def list_zones(session: Session) -> None:
    """List availability zones."""
    from cirra_sdk.cli.tables import ZONES

    session.output.resources(await session.client.placement.zones(), ZONES)


@command(server_groups, "create")
async def create_server_group(
    session: Session,
    *,
    name: options.NewName,
    policy: Annotated[
        Policy,
        typer.Option(metavar="POLICY", help="affinity, anti-affinity, soft-affinity or soft-anti-affinity."),
    ],
    max_servers_per_host: Annotated[
        int, typer.Option(metavar="N", min=0, help="With anti-affinity: how many one host may have; 0: one.")
    ] = 0,
) -> None:
    """Make a group; servers join it when they are created: --hint group=NAME."""
    from cirra.compute.v1.server_group_pb2 import ServerGroupPolicy

    wanted = ServerGroupPolicy.Value(f"SERVER_GROUP_POLICY_{policy.name}")
    session.output.resource(
        await session.client.server_groups.create(name, wanted, max_servers_per_host=max_servers_per_host)
    )


@command(server_groups, "list")
async def list_server_groups(session: Session, *, limit: options.Limit = 0) -> None:
    """List server groups."""
    from cirra_sdk.cli.tables import SERVER_GROUPS

    session.output.resources(await take(session.client.server_groups.list(), limit), SERVER_GROUPS)


@command(server_groups, "show")
async def show_server_group(session: Session, *, name: named.ServerGroup) -> None:
    """Show a server group and its members."""
    session.output.resource(await session.client.server_groups.get(name))


@command(server_groups, "delete")
async def delete_server_groups(session: Session, *, names: named.ServerGroups) -> None:
    """Delete server groups; their servers stay as they are."""
    await each(names, session.client.server_groups.delete)
