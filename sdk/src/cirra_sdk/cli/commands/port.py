"""`cirra port`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cirra_sdk.cli import named, options
from cirra_sdk.cli.command import Session, command, each, group
from cirra_sdk.cli.completing import names_of
from cirra_sdk.cli.report import UsageError
from cirra_sdk.cli.resource import one
from cirra_sdk.cli.waiting import take

if TYPE_CHECKING:
    from cirra.network.v1.network_pb2 import AddressPair

ports = group("port", "Addresses on networks, each for one NIC.")

Network = Annotated[str, typer.Option("--network", help="The network it is on.", autocompletion=names_of("networks"))]
OfNetwork = Annotated[
    str, typer.Option("--network", help="Those on this network.", autocompletion=names_of("networks"))
]
SecurityGroups = Annotated[
    list[str],
    typer.Option(
        "--security-group",
        metavar="GROUP",
        default_factory=list,
        show_default=False,
        help="A group that it is in; may be repeated.",
        autocompletion=names_of("security_groups"),
    ),
]
AllowedAddresses = Annotated[
    list[str],
    typer.Option(
        "--allowed-address",
        metavar="ip-address=CIDR,mac-address=MAC",
        default_factory=list,
        show_default=False,
        help="What it may use beside its own, from its own MAC address unless told; may be repeated.",
    ),
]
PortSecurity = Annotated[
    bool | None,
    typer.Option(
        "--enable-port-security/--disable-port-security",
        help="Off: its addresses aren't checked, and it is in no group.",
    ),
]


def _limit(about: str) -> Any:
    return typer.Option(metavar="N", min=0, help=about)


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
    security_group: SecurityGroups,
    no_security_group: Annotated[
        bool, typer.Option("--no-security-group", help="In no group, not even in default: nothing passes.")
    ] = False,
    allowed_address: AllowedAddresses,
    port_security: PortSecurity = None,
    ingress_kbps: Annotated[int, _limit("To the guest, in 1,000 bits a second; 0: unlimited.")] = 0,
    egress_kbps: Annotated[int, _limit("From the guest, likewise.")] = 0,
    ingress_burst_kbits: Annotated[int, _limit("1,000 bits at once; 0: what suits the rate.")] = 0,
    egress_burst_kbits: Annotated[int, _limit("Likewise, from the guest.")] = 0,
) -> None:
    """Reserve an address before there is a server for it."""
    from cirra.network.v1.network_pb2 import BandwidthLimits, FixedIp

    if no_security_group and security_group:
        raise UsageError("--no-security-group and --security-group: give one of them")
    limits = BandwidthLimits(
        ingress_kbps=ingress_kbps,
        egress_kbps=egress_kbps,
        ingress_burst_kbits=ingress_burst_kbits,
        egress_burst_kbits=egress_burst_kbits,
    )
    names = {"subnet": "subnet", "ip": "ip_address", "ip-address": "ip_address"}
    made = await session.client.ports.create(
        network=network,
        display_name=name,
        fixed_ips=[FixedIp(**options.fields(text, "--fixed-ip", names)) for text in fixed_ip],
        mac_address=mac_address,
        security_groups=[] if no_security_group else security_group or None,
        allowed_address_pairs=_pairs(allowed_address),
        port_security_enabled=port_security,
        qos=limits if limits != BandwidthLimits() else None,
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


@command(ports, "set")
async def set_port(
    session: Session,
    *,
    name: named.Port,
    security_group: SecurityGroups,
    no_security_group: Annotated[bool, typer.Option("--no-security-group", help="Out of all groups it is in.")] = False,
    allowed_address: AllowedAddresses,
    no_allowed_address: Annotated[bool, typer.Option("--no-allowed-address", help="Its own addresses only.")] = False,
    port_security: PortSecurity = None,
) -> None:
    """Change a port; in effect within a second. Groups and addresses join those that it has, unless --no-… is given."""
    changed: dict[str, Any] = {}
    present = await session.client.ports.get(name)
    if security_group or no_security_group:
        groups = [] if no_security_group else list(present.security_groups)
        changed["security_groups"] = [*groups, *security_group]
    if allowed_address or no_allowed_address:
        pairs = [] if no_allowed_address else list(present.allowed_address_pairs)
        changed["allowed_address_pairs"] = [*pairs, *_pairs(allowed_address)]
    if port_security is not None:
        changed["port_security_enabled"] = port_security
    if not changed:
        raise UsageError("nothing is to be changed", remedy="`cirra port set --help` lists what can be")
    session.output.resource(await session.client.ports.update(name, etag=present.etag, **changed))


@command(ports, "delete")
async def delete_ports(session: Session, *, names: named.Ports) -> None:
    """Delete ports that no server uses."""
    await each(names, session.client.ports.delete)


def _pairs(texts: list[str]) -> list[AddressPair]:
    from cirra.network.v1.network_pb2 import AddressPair

    names = {"ip-address": "ip_address", "ip": "ip_address", "mac-address": "mac_address", "mac": "mac_address"}
    return [AddressPair(**options.fields(text, "--allowed-address", names)) for text in texts]
