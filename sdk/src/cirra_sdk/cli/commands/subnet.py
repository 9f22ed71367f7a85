"""`cirra subnet`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cirra_sdk.cli import named, options
from cirra_sdk.cli.command import Session, command, each, group
from cirra_sdk.cli.completing import names_of
from cirra_sdk.cli.report import UsageError
from cirra_sdk.cli.resource import one
from cirra_sdk.cli.waiting import take

subnets = group("subnet", "Ranges of addresses of networks.")

Network = Annotated[str, typer.Option("--network", help="The network it is on.", autocompletion=names_of("networks"))]
OfNetwork = Annotated[
    str, typer.Option("--network", help="Those on this network.", autocompletion=names_of("networks"))
]


def _all(metavar: str, none: str) -> Any:
    """An option that says all of something at once."""
    return typer.Option(metavar=metavar, show_default=False, help=f"All of them from now on; may be repeated; {none}.")


@command(subnets, "create")
async def create_subnet(
    session: Session,
    *,
    name: options.NewName,
    network: Network,
    cidr: Annotated[str, typer.Option("--cidr", "--subnet-range", metavar="CIDR", help="Such as 192.168.1.0/24.")],
    gateway: Annotated[
        str, typer.Option(metavar="ADDRESS", help="`none` for none; the first host address unless told.")
    ] = "",
    allocation_pool: Annotated[
        list[str],
        typer.Option(
            metavar="start=FIRST,end=LAST",
            default_factory=list,
            show_default=False,
            help="Addresses to give out, all unless told; may be repeated.",
        ),
    ],
    dns_nameserver: Annotated[
        list[str],
        typer.Option(
            metavar="ADDRESS", default_factory=list, show_default=False, help="For the guests; may be repeated."
        ),
    ],
    host_route: Annotated[
        list[str],
        typer.Option(
            metavar="destination=CIDR,gateway=ADDRESS",
            default_factory=list,
            show_default=False,
            help="For the guests; may be repeated.",
        ),
    ],
    dhcp_ip: Annotated[str, typer.Option(metavar="ADDRESS", help="Of the DHCP server; the cloud's choice else.")] = "",
    no_dhcp: Annotated[bool, typer.Option("--no-dhcp", help="Nobody tells guests their addresses.")] = False,
) -> None:
    """Give a network a range of addresses; of an IPv6 range guests make theirs themselves (SLAAC)."""
    made = await session.client.subnets.create(
        name,
        network=network,
        cidr=cidr,
        gateway_ip="" if gateway in ("none", "auto") else gateway,
        no_gateway=gateway == "none",
        allocation_pools=_pools(allocation_pool),
        dns_nameservers=dns_nameserver,
        host_routes=_routes(host_route),
        dhcp_ip=dhcp_ip,
        no_dhcp=no_dhcp,
    )
    session.output.resource(made)


@command(subnets, "list")
async def list_subnets(session: Session, *, network: OfNetwork = "", limit: options.Limit = 0) -> None:
    """List ranges of addresses."""
    from cirra_sdk.cli.tables import SUBNETS

    session.output.resources(await take(session.client.subnets.list(network=network), limit), SUBNETS)


@command(subnets, "show")
async def show_subnet(session: Session, *, name: named.Subnet, as_of: options.AsOf = "") -> None:
    """Show a range of addresses."""
    session.output.resource(await one(session, session.client.subnets, name, as_of))


@command(subnets, "set")
async def set_subnet(
    session: Session,
    *,
    name: named.Subnet,
    new_name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="What to call it.")] = None,
    allocation_pool: Annotated[list[str] | None, _all("start=FIRST,end=LAST", "`none`: every host address")] = None,
    dns_nameserver: Annotated[list[str] | None, _all("ADDRESS", "`none` for none")] = None,
    host_route: Annotated[list[str] | None, _all("destination=CIDR,gateway=ADDRESS", "`none` for none")] = None,
    dhcp: Annotated[
        bool | None, typer.Option("--dhcp/--no-dhcp", show_default=False, help="Whether guests get leases.")
    ] = None,
) -> None:
    """Change a range of addresses; guests learn of it when they renew their leases."""
    lists = [None if given is None else _unless_none(given) for given in (allocation_pool, dns_nameserver, host_route)]
    pools, nameservers, routes = lists
    if new_name is None and dhcp is None and all(given is None for given in lists):
        raise UsageError(
            "nothing to set: give --name, --allocation-pool, --dns-nameserver, --host-route, --dhcp or --no-dhcp"
        )
    changed = await session.client.subnets.update(
        name,
        display_name=new_name,
        allocation_pools=None if pools is None else _pools(pools),
        dns_nameservers=nameservers,
        host_routes=None if routes is None else _routes(routes),
        no_dhcp=None if dhcp is None else not dhcp,
    )
    session.output.resource(changed)


@command(subnets, "delete")
async def delete_subnets(session: Session, *, names: named.Subnets) -> None:
    """Delete ranges that no port has an address of."""
    await each(names, session.client.subnets.delete)


def _pools(texts: list[str]) -> list[tuple[str, str]]:
    pools = [options.fields(text, "--allocation-pool", {"start": "start", "end": "end"}) for text in texts]
    return [(pool.get("start", ""), pool.get("end", "")) for pool in pools]


def _routes(texts: list[str]) -> list[tuple[str, str]]:
    names = {"destination": "destination", "gateway": "next_hop", "next-hop": "next_hop"}
    routes = [options.fields(text, "--host-route", names) for text in texts]
    return [(route.get("destination", ""), route.get("next_hop", "")) for route in routes]


def _unless_none(texts: list[str]) -> list[str]:
    return [] if texts == ["none"] else texts
