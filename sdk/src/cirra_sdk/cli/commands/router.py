"""`cirra router` and `cirra floating-ip`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cirra_sdk.cli import named, options
from cirra_sdk.cli.command import Session, command, each, group
from cirra_sdk.cli.completing import names_of, words
from cirra_sdk.cli.report import UsageError
from cirra_sdk.cli.resource import one
from cirra_sdk.cli.waiting import take

if TYPE_CHECKING:
    from cirra.network.v1.router_pb2 import Router

routers = group("router", "What joins subnets with one another, and with the outside.")
floating_ips = group("floating-ip", "Addresses of external networks that lead to ports.")

Subnet = Annotated[str, typer.Argument(metavar="SUBNET", help="A name or a uid.", autocompletion=names_of("subnets"))]
ExternalNetwork = Annotated[
    str, typer.Argument(metavar="NETWORK", help="An external network.", autocompletion=names_of("networks"))
]
DisableSnat = Annotated[
    bool, typer.Option("--disable-snat", help="Only what has a floating IP, or is routed by the provider, gets out.")
]
FixedIp = Annotated[
    str, typer.Option("--fixed-ip-address", metavar="ADDRESS", help="Which of the port's; the only one unless told.")
]


@command(routers, "create")
async def create_router(
    session: Session,
    *,
    name: options.NewName,
    external_gateway: Annotated[
        str, typer.Option(metavar="NETWORK", help="Its way out.", autocompletion=names_of("networks"))
    ] = "",
    disable_snat: DisableSnat = False,
) -> None:
    """Make a router; subnets are added to it then: cirra router add-interface."""
    if disable_snat and not external_gateway:
        raise UsageError("--disable-snat is about the way out: give --external-gateway too")
    made = await session.client.routers.create(name, external_network=external_gateway, enable_snat=not disable_snat)
    _show(session, made)


@command(routers, "list")
async def list_routers(
    session: Session,
    *,
    external_gateway: Annotated[
        str,
        typer.Option(metavar="NETWORK", help="Those that lead to this network.", autocompletion=names_of("networks")),
    ] = "",
    limit: options.Limit = 0,
) -> None:
    """List routers."""
    from cirra_sdk.cli.tables import ROUTERS

    found = session.client.routers.list(external_network=external_gateway)
    session.output.resources(await take(found, limit), ROUTERS)


@command(routers, "show")
async def show_router(session: Session, *, name: named.Router, as_of: options.AsOf = "") -> None:
    """Show a router: its interfaces, its way out, its routes."""
    _show(session, await one(session, session.client.routers, name, as_of))


@command(routers, "set")
async def set_router(
    session: Session,
    *,
    name: named.Router,
    new_name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="What to call it.")] = None,
    route: Annotated[
        list[str],
        typer.Option(
            "--route",
            metavar="destination=CIDR,gateway=ADDRESS",
            default_factory=list,
            show_default=False,
            help="A static route; those there are replaced by those given. May be repeated.",
        ),
    ],
    no_route: Annotated[bool, typer.Option("--no-route", help="Without static routes.")] = False,
) -> None:
    """Rename a router, or set its static routes."""
    if route and no_route:
        raise UsageError("--route and --no-route: give one of them")
    if new_name is None and not route and not no_route:
        raise UsageError("nothing to set: give --name, --route destination=CIDR,gateway=ADDRESS or --no-route")
    names = {"destination": "destination", "gateway": "next_hop", "next-hop": "next_hop"}
    told = [options.fields(text, "--route", names) for text in route]
    routes = [(each.get("destination", ""), each.get("next_hop", "")) for each in told]
    changed = await session.client.routers.update(
        name, display_name=new_name, routes=routes if route or no_route else None
    )
    _show(session, changed)


@command(routers, "delete")
async def delete_routers(session: Session, *, names: named.Routers) -> None:
    """Delete routers that have no interfaces."""
    await each(names, session.client.routers.delete)


@command(routers, "add-interface")
async def add_interface(
    session: Session,
    *,
    name: named.Router,
    subnet: Subnet,
    fixed_ip: Annotated[
        str, typer.Option("--fixed-ip", metavar="ADDRESS", help="The subnet's gateway unless told.")
    ] = "",
) -> None:
    """Put a router on a subnet, as its gateway or beside it."""
    _show(session, await session.client.routers.add_interface(name, subnet, ip_address=fixed_ip))


@command(routers, "remove-interface")
async def remove_interface(session: Session, *, name: named.Router, subnet: Subnet) -> None:
    """Take a router off a subnet."""
    _show(session, await session.client.routers.remove_interface(name, subnet))


@command(routers, "set-gateway")
async def set_gateway(
    session: Session, *, name: named.Router, network: ExternalNetwork, disable_snat: DisableSnat = False
) -> None:
    """Give a router its way out, or another."""
    _show(session, await session.client.routers.set_gateway(name, network, enable_snat=not disable_snat))


@command(routers, "clear-gateway")
async def clear_gateway(session: Session, *, name: named.Router) -> None:
    """Take a router's way out away."""
    _show(session, await session.client.routers.clear_gateway(name))


def _show(session: Session, router: Router) -> None:
    from cirra_sdk.cli.router_view import router_tables

    session.output.resource(router, *router_tables(router))


@command(floating_ips, "create")
async def create_floating_ip(
    session: Session,
    *,
    network: ExternalNetwork,
    subnet: Annotated[
        str, typer.Option(help="Of which of its ranges; any unless told.", autocompletion=names_of("subnets"))
    ] = "",
    address: Annotated[
        str, typer.Option("--floating-ip-address", metavar="ADDRESS", help="This one (administrators).")
    ] = "",
    port: Annotated[str, typer.Option(help="It leads there at once.", autocompletion=names_of("ports"))] = "",
    fixed_ip_address: FixedIp = "",
) -> None:
    """Take an address of an external network for the project."""
    made = await session.client.floating_ips.create(
        network, subnet=subnet, floating_ip_address=address, port=port, fixed_ip_address=fixed_ip_address
    )
    session.output.resource(made)


@command(floating_ips, "list")
async def list_floating_ips(
    session: Session,
    *,
    network: Annotated[
        str, typer.Option(help="Those of this external network.", autocompletion=names_of("networks"))
    ] = "",
    port: Annotated[str, typer.Option(help="Those that lead to this port.", autocompletion=names_of("ports"))] = "",
    status: Annotated[
        str,
        typer.Option(help="Those that are ACTIVE (lead to a port) or DOWN.", autocompletion=words("ACTIVE", "DOWN")),
    ] = "",
    limit: options.Limit = 0,
) -> None:
    """List floating IPs."""
    from cirra.network.v1.floating_ip_pb2 import FloatingIpStatus
    from cirra_sdk.cli.tables import FLOATING_IPS

    found = session.client.floating_ips.list(
        network=network, port=port, status=options.enum(FloatingIpStatus, status, "--status")
    )
    session.output.resources(await take(found, limit), FLOATING_IPS)


@command(floating_ips, "show")
async def show_floating_ip(session: Session, *, name: named.FloatingIp, as_of: options.AsOf = "") -> None:
    """Show a floating IP; its address is a name."""
    session.output.resource(await one(session, session.client.floating_ips, name, as_of))


@command(floating_ips, "associate")
async def associate_floating_ip(
    session: Session,
    *,
    name: named.FloatingIp,
    port: Annotated[
        str,
        typer.Argument(metavar="PORT", help="`cirra port list` has them.", autocompletion=names_of("ports")),
    ],
    fixed_ip_address: FixedIp = "",
    move: Annotated[bool, typer.Option("--move", help="Also when it leads to another port now.")] = False,
) -> None:
    """Make a floating IP lead to a port."""
    found = await session.client.floating_ips.associate(name, port, fixed_ip_address=fixed_ip_address, move=move)
    session.output.resource(found)


@command(floating_ips, "disassociate")
async def disassociate_floating_ip(session: Session, *, name: named.FloatingIp) -> None:
    """Make a floating IP lead nowhere; it stays the project's."""
    session.output.resource(await session.client.floating_ips.disassociate(name))


@command(floating_ips, "delete")
async def delete_floating_ips(session: Session, *, names: named.FloatingIps) -> None:
    """Give floating IPs back."""
    await each(names, session.client.floating_ips.delete)
