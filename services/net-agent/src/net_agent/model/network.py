"""A network and its subnets, as guests of this host are to find them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address

from cirra.agent.v1 import desired_pb2, fabric_pb2
from net_agent.model.checker import Checker, IpAddress, IpNetwork

DEFAULT_MTU = 1500
DEFAULT_DNS_DOMAIN = "novalocal"
METADATA_ADDRESS = IPv4Address("169.254.169.254")
# 169.254 is a9fe: OpenStack's address of metadata where there is no IPv4, on every link.
METADATA_ADDRESS_IPV6 = IPv6Address("fe80::a9fe:a9fe")


class NetworkKind(Enum):
    """FLAT: the physical network as it is, or, without one, nothing beyond this host."""

    FLAT = desired_pb2.NETWORK_KIND_FLAT
    VLAN = desired_pb2.NETWORK_KIND_VLAN
    VXLAN = desired_pb2.NETWORK_KIND_VXLAN


_SEGMENTATION_IDS = {NetworkKind.FLAT: (0, 0), NetworkKind.VLAN: (1, 4094), NetworkKind.VXLAN: (1, (1 << 24) - 1)}


@dataclass(frozen=True, slots=True)
class Route:
    destination: IpNetwork
    next_hop: IpAddress


@dataclass(frozen=True, slots=True)
class Subnet:
    """`dhcp_ip`: where DHCP, DNS and metadata answer on every host; None: nothing answers there.

    `dns_nameservers`: of either family, as all of it.
    """

    subnet_id: str
    cidr: IpNetwork
    gateway_ip: IpAddress | None
    dhcp_ip: IpAddress | None
    dns_nameservers: tuple[IpAddress, ...] = ()
    host_routes: tuple[Route, ...] = ()
    # Guests get no lease, or no advertisement, though the address answers for DNS and metadata.
    no_dhcp: bool = False

    @property
    def leases(self) -> bool:
        """Guests are given their addresses by DHCP."""
        return self.cidr.version == 4 and self.dhcp_ip is not None and not self.no_dhcp

    @property
    def server(self) -> IPv4Address | None:
        """`dhcp_ip`, as guests that speak IPv4 know it."""
        return self.dhcp_ip if isinstance(self.dhcp_ip, IPv4Address) else None

    @property
    def router(self) -> IPv4Address | None:
        """`gateway_ip`, likewise."""
        return self.gateway_ip if isinstance(self.gateway_ip, IPv4Address) else None

    @property
    def slaac(self) -> bool:
        """Guests make their addresses themselves, of what is advertised (RFC 4862)."""
        return self.cidr.version == 6 and self.dhcp_ip is not None and not self.no_dhcp


@dataclass(frozen=True, slots=True)
class Network:
    """`mtu` in octets. `segmentation_id`: the VLAN's or VXLAN's number; 0 for a flat network.

    `external`: a provider's network, where routers have their way out; no guest needs to be on it.
    """

    network_id: str
    generation: int
    bridge: str
    mtu: int
    physical_network: str
    dns_domain: str
    subnets: tuple[Subnet, ...]
    kind: NetworkKind = NetworkKind.FLAT
    segmentation_id: int = 0
    external: bool = False

    @property
    def served_subnets(self) -> tuple[Subnet, ...]:
        """Those in which something answers guests: DNS and metadata, and mostly DHCP or advertisements."""
        return tuple(subnet for subnet in self.subnets if subnet.dhcp_ip is not None)

    @property
    def dhcp_subnets(self) -> tuple[Subnet, ...]:
        return tuple(subnet for subnet in self.subnets if subnet.leases)

    @property
    def slaac_subnets(self) -> tuple[Subnet, ...]:
        return tuple(subnet for subnet in self.subnets if subnet.slaac)

    def resolvers(self, subnet: Subnet) -> tuple[IpAddress, ...]:
        """Whom guests of a served subnet are told to ask for names: their host; where that can't ask others, whom to
        ask next."""
        assert subnet.dhcp_ip is not None
        others = subnet.dns_nameservers if self.physical_network else ()
        return subnet.dhcp_ip, *(server for server in others if server.version == subnet.cidr.version)

    @property
    def has_ipv6(self) -> bool:
        return any(subnet.cidr.version == 6 for subnet in self.subnets)


def network_from_spec(spec: desired_pb2.NetworkSpec) -> Network:
    """Raises InvalidArgument, naming each bad field."""
    check = Checker()
    network = checked_network(spec, check, "network")
    check.finish()
    return network


def checked_network(spec: desired_pb2.NetworkSpec, check: Checker, field: str) -> Network:
    """*field*: where the network is in the message, for the violations. Of no kind: flat, as before there were any."""
    kind = NetworkKind(spec.kind or desired_pb2.NETWORK_KIND_FLAT)
    if kind is NetworkKind.VLAN and not spec.physical_network:
        check.violate(f"{field}.physical_network", "a VLAN is one of a physical network")
    return Network(
        network_id=check.uuid(f"{field}.network_id", spec.network_id),
        generation=spec.generation,
        bridge=check.device(f"{field}.bridge", spec.bridge, "brq"),
        mtu=check.mtu(f"{field}.mtu", spec.mtu or DEFAULT_MTU),
        physical_network=spec.physical_network,
        dns_domain=check.domain(f"{field}.dns_domain", spec.dns_domain.rstrip(".") or DEFAULT_DNS_DOMAIN),
        subnets=tuple(_subnet(subnet, check, f"{field}.subnets") for subnet in spec.subnets),
        kind=kind,
        segmentation_id=check.between(f"{field}.segmentation_id", spec.segmentation_id, *_SEGMENTATION_IDS[kind]),
        external=spec.external,
    )


def _subnet(spec: desired_pb2.SubnetSpec, check: Checker, field: str) -> Subnet:
    cidr = check.network(f"{field}.cidr", spec.cidr)
    own = {
        name: check.address_of(f"{field}.{name}", text, cidr)
        for name, text in (("gateway_ip", spec.gateway_ip), ("dhcp_ip", spec.dhcp_ip))
        if text
    }
    return Subnet(
        subnet_id=check.uuid(f"{field}.subnet_id", spec.subnet_id),
        cidr=cidr,
        gateway_ip=own.get("gateway_ip"),
        dhcp_ip=own.get("dhcp_ip"),
        dns_nameservers=tuple(check.address(f"{field}.dns_nameservers", text) for text in spec.dns_nameservers),
        host_routes=tuple(checked_route(route, check, f"{field}.host_routes") for route in spec.host_routes),
        no_dhcp=spec.no_dhcp,
    )


def checked_route(spec: fabric_pb2.Route, check: Checker, field: str) -> Route:
    route = Route(
        check.network(f"{field}.destination", spec.destination), check.address(f"{field}.next_hop", spec.next_hop)
    )
    if route.destination.version != route.next_hop.version:
        check.violate(field, f"{spec.destination} and {spec.next_hop} are of two address families")
    return route


def network_to_spec(network: Network) -> desired_pb2.NetworkSpec:
    """The inverse of `network_from_spec`, for the host's own records."""
    return desired_pb2.NetworkSpec(
        network_id=network.network_id,
        generation=network.generation,
        bridge=network.bridge,
        mtu=network.mtu,
        physical_network=network.physical_network,
        dns_domain=network.dns_domain,
        subnets=[_subnet_to_spec(subnet) for subnet in network.subnets],
        kind=network.kind.value,
        segmentation_id=network.segmentation_id,
        external=network.external,
    )


def _subnet_to_spec(subnet: Subnet) -> desired_pb2.SubnetSpec:
    return desired_pb2.SubnetSpec(
        subnet_id=subnet.subnet_id,
        cidr=str(subnet.cidr),
        gateway_ip=str(subnet.gateway_ip or ""),
        dhcp_ip=str(subnet.dhcp_ip or ""),
        dns_nameservers=[str(server) for server in subnet.dns_nameservers],
        host_routes=[route_to_spec(route) for route in subnet.host_routes],
        no_dhcp=subnet.no_dhcp,
    )


def route_to_spec(route: Route) -> fabric_pb2.Route:
    return fabric_pb2.Route(destination=str(route.destination), next_hop=str(route.next_hop))
