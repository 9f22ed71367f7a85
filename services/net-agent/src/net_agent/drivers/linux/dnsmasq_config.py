"""What dnsmasq shall know of a network, as its files and its command line (dnsmasq(8)). Pure.

What may change while it runs is in three files that it reads again on SIGHUP: hosts (who gets which address), options
(what they are told with it), names (DNS). What is on the command line can't change without a restart, so that a
running process with this very command line is a right one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core.ids import device_suffix
from net_agent.drivers.linux.dhcp_link import inner_device
from net_agent.model import METADATA_ADDRESS, IpAddress, Network, Peer, Port, Subnet

LEASE_TIME_S = 86_400
_CACHE_ENTRIES = 1_000
# Between two advertisements that nobody asked for.
_RA_INTERVAL_S = 60


@dataclass(frozen=True, slots=True)
class NetworkPaths:
    """A network's files on this host."""

    folder: Path

    @property
    def hosts(self) -> Path:
        return self.folder / "dhcp-hosts"

    @property
    def options(self) -> Path:
        return self.folder / "dhcp-options"

    @property
    def names(self) -> Path:
        return self.folder / "dns-names"

    @property
    def leases(self) -> Path:
        return self.folder / "leases"

    @property
    def pid(self) -> Path:
        return self.folder / "dnsmasq.pid"

    @property
    def log(self) -> Path:
        return self.folder / "dnsmasq.log"


@dataclass(frozen=True, slots=True)
class DnsmasqFiles:
    hosts: str
    options: str
    names: str
    # A name that only a dnsmasq which has read just these files can resolve.
    probe_name: str


def files(network: Network, ports: Sequence[Port], peers: Sequence[Peer] = ()) -> DnsmasqFiles:
    """ports: those of this host; an inactive one gets neither an address nor a name. peers: they have names only."""
    active = sorted((port for port in ports if port.active), key=lambda port: port.port_id)
    hosts = "".join(line for port in active for line in _host_lines(network, port))
    options = "".join(line for subnet in network.dhcp_subnets for line in _option_lines(network, subnet))
    here = {port.port_id for port in active}
    away = sorted((peer for peer in peers if peer.port_id not in here), key=lambda peer: peer.port_id)
    named: list[Port | Peer] = [*active, *away]
    names = "".join(_name_line(network, it, str(address)) for it in named for address in it.addresses)
    digest = hashlib.sha256("\0".join((hosts, options, names)).encode()).hexdigest()[:16]
    probe_name = f"read-{digest}.{network.dns_domain}"
    return DnsmasqFiles(hosts, options, f"{names}127.0.0.2 {probe_name}\n", probe_name)


def host_name(port: Port | Peer) -> str:
    """A guest without a name is called by its port, so that it can be looked up at all."""
    return port.hostname.lower() or f"port-{device_suffix(port.port_id)}"


def _host_lines(network: Network, port: Port) -> list[str]:
    """The name with its domain: dnsmasq takes a bare `ignore`, `infinite` or `45m` for something else than a name."""
    served = [subnet.cidr for subnet in network.dhcp_subnets]
    return [
        f"{port.mac_address},{address},{host_name(port)}.{network.dns_domain}\n"
        for address in port.addresses
        if any(address in cidr for cidr in served)
    ]


def _name_line(network: Network, port: Port | Peer, address: str) -> str:
    name = host_name(port)
    return f"{address} {name}.{network.dns_domain} {name}\n"


def subnet_tag(subnet: Subnet) -> str:
    return f"subnet-{device_suffix(subnet.subnet_id)}"


def _option_lines(network: Network, subnet: Subnet) -> list[str]:
    """RFC 2132 options 3, 6 and 26, RFC 3442 option 121, and 249, its double from before the RFC.

    Who takes 121 ignores 3, so the default route is in both. An option 3 without a value keeps dnsmasq from naming
    itself as the router. Where it can't ask others (`_nameservers`), guests are told whom to ask next.
    """
    routes = ",".join(
        [f"{METADATA_ADDRESS}/32,{subnet.dhcp_ip}", *(f"{it.destination},{it.next_hop}" for it in subnet.host_routes)]
    )
    if subnet.gateway_ip is not None:
        routes += f",0.0.0.0/0,{subnet.gateway_ip}"
    servers = ",".join(map(str, network.resolvers(subnet)))
    values = (
        f"option:router,{subnet.gateway_ip}" if subnet.gateway_ip is not None else "option:router",
        f"option:dns-server,{servers}",
        f"option:mtu,{network.mtu}",
        f"option:classless-static-route,{routes}",
        f"249,{routes}",
    )
    return [f"tag:{subnet_tag(subnet)},{value}\n" for value in values]


def command(program: str, network: Network, paths: NetworkPaths, user: str) -> tuple[str, ...]:
    """The command line. `static`: nobody gets an address that isn't theirs; `!known`: nor an answer, not even a NAK."""
    return (
        program,
        "--conf-file=/dev/null",
        "--no-hosts",
        "--no-resolv",
        "--no-poll",
        "--bind-interfaces",
        f"--interface={inner_device(network.network_id)}",
        # Bound once and for all: another address is another command line.
        *(f"--listen-address={subnet.dhcp_ip}" for subnet in network.served_subnets),
        "--except-interface=lo",
        f"--user={user}",
        f"--pid-file={paths.pid}",
        f"--log-facility={paths.log}",
        f"--domain={network.dns_domain}",
        f"--local=/{network.dns_domain}/",
        f"--cache-size={_CACHE_ENTRIES}",
        f"--addn-hosts={paths.names}",
        f"--dhcp-leasefile={paths.leases}",
        f"--dhcp-hostsfile={paths.hosts}",
        f"--dhcp-optsfile={paths.options}",
        "--dhcp-authoritative",
        "--dhcp-ignore=tag:!known",
        f"--dhcp-lease-max={_lease_max(network)}",
        *(_range(subnet) for subnet in network.dhcp_subnets),
        *_advertisements(network),
        *(f"--server={server}" for server in _nameservers(network)),
    )


def pid_marker(paths: NetworkPaths) -> str:
    """The argument that tells this dnsmasq from all others."""
    return f"--pid-file={paths.pid}"


def _range(subnet: Subnet) -> str:
    cidr = subnet.cidr
    return f"--dhcp-range=set:{subnet_tag(subnet)},{cidr.network_address},static,{cidr.netmask},{LEASE_TIME_S}s"


def _advertisements(network: Network) -> list[str]:
    """Of prefixes, and of whom to ask for names: a lifetime of 0 says that it is no router (RFC 4861, section 6.2.3).
    Where there is one, that says so itself.
    """
    if not network.slaac_subnets:
        return []
    ranges = (
        f"--dhcp-range={subnet.cidr.network_address},ra-only,{subnet.cidr.prefixlen},{LEASE_TIME_S}s"
        for subnet in network.slaac_subnets
    )
    device = inner_device(network.network_id)
    resolvers = dict.fromkeys(it for subnet in network.slaac_subnets for it in network.resolvers(subnet))
    return [
        "--enable-ra",
        *ranges,
        f"--ra-param={device},mtu:{network.mtu},{_RA_INTERVAL_S},0",
        *names_advertised(device, list(resolvers), network.dns_domain),
    ]


def names_advertised(device: str, resolvers: Sequence[IpAddress], domain: str) -> list[str]:
    """What advertisements on a device say of names (RFC 8106, RDNSS and DNSSL)."""
    servers = ",".join(f"[{address}]" for address in resolvers)
    return [
        f"--dhcp-option=tag:{device},option6:dns-server,{servers}",
        f"--dhcp-option=tag:{device},option6:domain-search,{domain}",
    ]


def _lease_max(network: Network) -> int:
    return max(1_000, sum(subnet.cidr.num_addresses for subnet in network.dhcp_subnets))


def _nameservers(network: Network) -> list[str]:
    """Where questions about the outside go; none: nowhere, and never to the host's own resolvers.

    On a provider's segment none: the address that would ask is the same on each host. Guests ask for themselves there,
    when they are refused here (`res_send` of resolvers goes on to the next server then).
    """
    if network.physical_network:
        return []
    servers = (str(server) for subnet in network.served_subnets for server in subnet.dns_nameservers)
    return list(dict.fromkeys(servers))
