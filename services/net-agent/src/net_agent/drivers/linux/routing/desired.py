"""What this host is to route, as the specifications on its disk have it: the input of all plans. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from net_agent.drivers.linux.routing.names import LinkAddresses
from net_agent.model import ExternalGateway, FloatingIp, IpAddress, IpNetwork, Router
from net_agent.specs.wanted import Wanted


@dataclass(frozen=True, slots=True)
class Resolvers:
    """Whom to ask for names, and in which domain those of neighbours are."""

    addresses: tuple[IpAddress, ...]
    domain: str


@dataclass(frozen=True, slots=True)
class Routing:
    """floating_ips: those of this host's ports.

    stations: network id → address → MAC address, of its ports on this host and on others.
    metadata: subnet id → the address in it where metadata answers.
    resolvers: of the subnets whose guests make their addresses themselves; no router announces itself on others.
    guest_connections: how many a guest may have at once by the way out, of the 262,144 that a namespace may track on a
    common host; to count them takes time, too.
    """

    routers: tuple[Router, ...] = ()
    floating_ips: tuple[FloatingIp, ...] = ()
    stations: Mapping[str, Mapping[IpAddress, str]] | None = None
    metadata: Mapping[str, IPv4Address] | None = None
    resolvers: Mapping[str, Resolvers] | None = None
    guest_connections: int = 8_192

    def floating_of(self, router_id: str) -> tuple[FloatingIp, ...]:
        return tuple(each for each in self.floating_ips if each.router_id == router_id)


def routing(wanted: Wanted) -> Routing:
    """In a fixed order, so that the same specifications give the same plans."""
    routers = [wanted.routers[router_id] for router_id in sorted(wanted.routers)]
    stations: dict[str, dict[IpAddress, str]] = {}
    metadata: dict[str, IPv4Address] = {}
    resolvers: dict[str, Resolvers] = {}
    for network_id in sorted({interface.network_id for router in routers for interface in router.interfaces}):
        here = stations[network_id] = {}
        for peer in wanted.peers_on(network_id):
            here.update(dict.fromkeys(peer.addresses, peer.mac_address))
        # Here is where a port is that is both: on its way from one host to another.
        for port in wanted.ports_on(network_id):
            here.update(dict.fromkeys(port.addresses, port.mac_address))
        network = wanted.network(network_id)
        for subnet in network.subnets if network is not None else ():
            if isinstance(subnet.dhcp_ip, IPv4Address):
                metadata[subnet.subnet_id] = subnet.dhcp_ip
            if network is not None and subnet.slaac:
                resolvers[subnet.subnet_id] = Resolvers(network.resolvers(subnet), network.dns_domain)
    floating = tuple(wanted.floating_ips[each] for each in sorted(wanted.floating_ips))
    return Routing(
        routers=tuple(routers), floating_ips=floating, stations=stations, metadata=metadata, resolvers=resolvers
    )


@dataclass(frozen=True, slots=True)
class Tenant:
    """A router as its external namespace knows it.

    subnets: those whose addresses are seen outside as they are: IPv6, and IPv4 of a router without SNAT.
    """

    router_id: str
    link: LinkAddresses
    subnets: tuple[IpNetwork, ...]
    floating: tuple[IPv4Address, ...]


@dataclass(frozen=True, slots=True)
class External:
    """An external network on this host, with the routers that have their way out there."""

    gateway: ExternalGateway
    tenants: tuple[Tenant, ...]


def externals(desired: Routing, links: Mapping[str, LinkAddresses]) -> dict[str, External]:
    """External network id → what its namespace here is for.

    Each router brings the gateway's description; they differ only while a change is on its way: the first one's holds.
    """
    gateways: dict[str, ExternalGateway] = {}
    tenants: defaultdict[str, list[Tenant]] = defaultdict(list)
    for router in desired.routers:
        if router.gateway is None:
            continue
        gateways.setdefault(router.gateway.network_id, router.gateway)
        tenants[router.gateway.network_id].append(_tenant(router, router.gateway, desired, links[router.router_id]))
    return {network_id: External(gateway, tuple(tenants[network_id])) for network_id, gateway in gateways.items()}


def _tenant(router: Router, gateway: ExternalGateway, desired: Routing, link: LinkAddresses) -> Tenant:
    return Tenant(
        router_id=router.router_id,
        link=link,
        subnets=tuple(
            sorted(
                (each.address.network for each in router.interfaces if each.address.version == 6 or not gateway.snat),
                key=str,
            )
        ),
        floating=tuple(each for each, _ in translations(desired, router)),
    )


def translations(desired: Routing, router: Router) -> tuple[tuple[IPv4Address, IPv4Address], ...]:
    """(floating, fixed) of this router, IPv4 of its external network only."""
    return tuple(
        (each.floating_address, each.fixed_address)
        for each in desired.floating_of(router.router_id)
        if isinstance(each.floating_address, IPv4Address)
        and isinstance(each.fixed_address, IPv4Address)
        and router.gateway is not None
        and each.external_network_id == router.gateway.network_id
    )
