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
    from collections.abc import Sequence

    from cirra.network.v1.network_pb2 import AddressPair, BandwidthLimits, FixedIp

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


FixedIps = Annotated[
    list[str],
    typer.Option(
        "--fixed-ip",
        metavar="subnet=SUBNET,ip=ADDRESS",
        default_factory=list,
        show_default=False,
        help="Either is enough; the cloud's choice unless told. May be repeated.",
    ),
]
LIMITS = ("ingress_kbps", "egress_kbps", "ingress_burst_kbits", "egress_burst_kbits")


def _limit(about: str) -> Any:
    return typer.Option(metavar="N", min=0, help=about)


IngressKbps = Annotated[int | None, _limit("To the guest, in 1,000 bits a second; 0: unlimited.")]
EgressKbps = Annotated[int | None, _limit("From the guest, likewise.")]
IngressBurst = Annotated[int | None, _limit("1,000 bits at once; 0: what suits the rate.")]
EgressBurst = Annotated[int | None, _limit("Likewise, from the guest.")]


@command(ports, "create")
async def create_port(
    session: Session,
    *,
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="What to call it.")] = "",
    network: Network,
    fixed_ip: FixedIps,
    mac_address: Annotated[str, typer.Option(metavar="MAC", help="The cloud's choice unless told.")] = "",
    security_group: SecurityGroups,
    no_security_group: Annotated[
        bool, typer.Option("--no-security-group", help="In no group, not even in default: nothing passes.")
    ] = False,
    allowed_address: AllowedAddresses,
    port_security: PortSecurity = None,
    ingress_kbps: IngressKbps = None,
    egress_kbps: EgressKbps = None,
    ingress_burst_kbits: IngressBurst = None,
    egress_burst_kbits: EgressBurst = None,
) -> None:
    """Reserve an address before there is a server for it."""
    if no_security_group and security_group:
        raise UsageError("--no-security-group and --security-group: give one of them")
    limits = (ingress_kbps, egress_kbps, ingress_burst_kbits, egress_burst_kbits)
    made = await session.client.ports.create(
        network=network,
        display_name=name,
        fixed_ips=_fixed_ips(fixed_ip),
        mac_address=mac_address,
        security_groups=[] if no_security_group else security_group or None,
        allowed_address_pairs=_pairs(allowed_address),
        port_security_enabled=port_security,
        qos=_limits(limits, None),
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
    new_name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="What to call it.")] = None,
    fixed_ip: FixedIps,
    no_fixed_ip: Annotated[
        bool, typer.Option("--no-fixed-ip", help="None of those that it has, but what --fixed-ip gives.")
    ] = False,
    security_group: SecurityGroups,
    no_security_group: Annotated[bool, typer.Option("--no-security-group", help="Out of all groups it is in.")] = False,
    allowed_address: AllowedAddresses,
    no_allowed_address: Annotated[bool, typer.Option("--no-allowed-address", help="Its own addresses only.")] = False,
    port_security: PortSecurity = None,
    ingress_kbps: IngressKbps = None,
    egress_kbps: EgressKbps = None,
    ingress_burst_kbits: IngressBurst = None,
    egress_burst_kbits: EgressBurst = None,
) -> None:
    """Change a port; in effect within a second, but a guest learns of its addresses when it asks DHCP anew. Groups and
    addresses join those that it has, unless --no-… is given."""
    changed: dict[str, Any] = {}
    present = await session.client.ports.get(name)
    if new_name is not None:
        changed["display_name"] = new_name
    if fixed_ip or no_fixed_ip:
        changed["fixed_ips"] = [*([] if no_fixed_ip else present.fixed_ips), *_fixed_ips(fixed_ip)]
    limits = _limits((ingress_kbps, egress_kbps, ingress_burst_kbits, egress_burst_kbits), present.qos)
    if limits is not None:
        changed["qos"] = limits
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


def _fixed_ips(texts: list[str]) -> list[FixedIp]:
    from cirra.network.v1.network_pb2 import FixedIp

    names = {"subnet": "subnet", "ip": "ip_address", "ip-address": "ip_address"}
    return [FixedIp(**options.fields(text, "--fixed-ip", names)) for text in texts]


def _limits(given: Sequence[int | None], present: BandwidthLimits | None) -> BandwidthLimits | None:
    """As present, but for what is given; None: nothing is."""
    from cirra.network.v1.network_pb2 import BandwidthLimits

    told = {name: value for name, value in zip(LIMITS, given, strict=True) if value is not None}
    if not told:
        return None
    limits = BandwidthLimits()
    if present is not None:
        limits.CopyFrom(present)
    for name, value in told.items():
        setattr(limits, name, value)
    return limits


def _pairs(texts: list[str]) -> list[AddressPair]:
    from cirra.network.v1.network_pb2 import AddressPair

    names = {"ip-address": "ip_address", "ip": "ip_address", "mac-address": "mac_address", "mac": "mac_address"}
    return [AddressPair(**options.fields(text, "--allowed-address", names)) for text in texts]
