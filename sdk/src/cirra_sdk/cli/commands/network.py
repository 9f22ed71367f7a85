"""`cirra network`, `cirra subnet` and `cirra port`."""

from __future__ import annotations

from typing import Annotated

import typer

from cirra_sdk.cli import named, options
from cirra_sdk.cli.command import Session, command, each, group
from cirra_sdk.cli.completing import names_of
from cirra_sdk.cli.resource import one
from cirra_sdk.cli.waiting import take

networks = group("network", "Segments that servers are plugged into.")
subnets = group("subnet", "Ranges of addresses of networks.")
ports = group("port", "Addresses on networks, each for one NIC.")

Network = Annotated[str, typer.Option("--network", help="The network it is on.", autocompletion=names_of("networks"))]
OfNetwork = Annotated[
    str, typer.Option("--network", help="Those on this network.", autocompletion=names_of("networks"))
]


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


@command(networks, "delete")
async def delete_networks(session: Session, *, names: named.Networks) -> None:
    """Delete networks that no port is on; their subnets go with them."""
    await each(names, session.client.networks.delete)


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
    dhcp_ip: Annotated[str, typer.Option(metavar="ADDRESS", help="Of the DHCP server; the cloud's choice else.")] = "",
) -> None:
    """Give a network a range of addresses."""
    pools = [options.fields(text, "--allocation-pool", {"start": "start", "end": "end"}) for text in allocation_pool]
    made = await session.client.subnets.create(
        name,
        network=network,
        cidr=cidr,
        gateway_ip="" if gateway in ("none", "auto") else gateway,
        no_gateway=gateway == "none",
        allocation_pools=[(pool.get("start", ""), pool.get("end", "")) for pool in pools],
        dns_nameservers=dns_nameserver,
        dhcp_ip=dhcp_ip,
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


@command(subnets, "delete")
async def delete_subnets(session: Session, *, names: named.Subnets) -> None:
    """Delete ranges that no port has an address of."""
    await each(names, session.client.subnets.delete)


@command(ports, "create")
async def create_port(
    session: Session,
    *,
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="What to call it.")] = "",
    network: Network,
    fixed_ip: Annotated[
        list[str],
        typer.Option(
            metavar="subnet=SUBNET,ip=ADDRESS",
            default_factory=list,
            show_default=False,
            help="Either is enough; the cloud's choice unless told. May be repeated.",
        ),
    ],
    mac_address: Annotated[str, typer.Option(metavar="MAC", help="The cloud's choice unless told.")] = "",
) -> None:
    """Reserve an address before there is a server for it."""
    from cirra.network.v1.network_pb2 import FixedIp

    names = {"subnet": "subnet", "ip": "ip_address", "ip-address": "ip_address"}
    made = await session.client.ports.create(
        network=network,
        display_name=name,
        fixed_ips=[FixedIp(**options.fields(text, "--fixed-ip", names)) for text in fixed_ip],
        mac_address=mac_address,
    )
    session.output.resource(made)


@command(ports, "list")
async def list_ports(
    session: Session,
    *,
    network: OfNetwork = "",
    server: Annotated[str, typer.Option(help="Those of this server.", autocompletion=names_of("instances"))] = "",
    limit: options.Limit = 0,
) -> None:
    """List ports: the address allocated, the one leased, the one seen in use."""
    from cirra_sdk.cli.tables import PORTS

    found = session.client.ports.list(network=network, device_id=server)
    session.output.resources(await take(found, limit), PORTS)


@command(ports, "show")
async def show_port(session: Session, *, name: named.Port, as_of: options.AsOf = "") -> None:
    """Show a port."""
    session.output.resource(await one(session, session.client.ports, name, as_of))


@command(ports, "delete")
async def delete_ports(session: Session, *, names: named.Ports) -> None:
    """Delete ports that no server uses."""
    await each(names, session.client.ports.delete)
