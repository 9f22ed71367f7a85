"""What the inside of a namespace shall be like. Pure; `routing.kernel` compares it with what is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network

from net_agent.drivers.linux.routing.desired import Resolvers
from net_agent.drivers.linux.ruleset import Table
from net_agent.model import IpAddress, IpInterface, IpNetwork

MAIN_TABLE = 254


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface that the namespace holds. `mac_address`: "" leaves it as it is. `mtu` in octets.

    `announced`: others are told of its IPv4 addresses when it gets them (gratuitous ARP).
    """

    name: str
    mac_address: str
    mtu: int
    addresses: frozenset[IpInterface]
    sysctls: Mapping[str, str]
    announced: bool = False


@dataclass(frozen=True, slots=True)
class RouteEntry:
    """`gateway` None: on the link. The gateway need not be within a prefix of the device (`onlink`)."""

    destination: IpNetwork
    gateway: IpAddress | None
    device: str
    table: int = MAIN_TABLE

    def __str__(self) -> str:
        via = f" via {self.gateway}" if self.gateway is not None else ""
        table = f" table {self.table}" if self.table != MAIN_TABLE else ""
        return f"{self.destination}{via} dev {self.device}{table}"


@dataclass(frozen=True, slots=True)
class RuleEntry:
    """What comes in by `device` for `destination` is routed by `table`."""

    device: str
    destination: IpNetwork
    table: int

    def __str__(self) -> str:
        return f"from {self.device} to {self.destination} lookup {self.table}"


@dataclass(frozen=True, slots=True)
class Announcement:
    """A router tells of itself on a device (RFC 4861, 6.2): `prefix` of 64 bits, `mtu` in octets."""

    device: str
    prefix: IPv6Network
    mtu: int
    resolvers: Resolvers


@dataclass(frozen=True, slots=True)
class NamespacePlan:
    """neighbours: (device, address) → MAC address, permanent. proxies: (device, address) that it answers ARP for."""

    name: str
    sysctls: Mapping[str, str]
    interfaces: tuple[Interface, ...]
    routes: frozenset[RouteEntry]
    rules: frozenset[RuleEntry]
    neighbours: Mapping[tuple[str, IPv4Address | IPv6Address], str]
    proxies: frozenset[tuple[str, IPv4Address]]
    table: Table


def per_interface(name: str, **values: str) -> dict[str, str]:
    """Settings of an interface, by "v4_…" and "v6_…" (ip-sysctl.rst)."""
    families = {"v4": "ipv4", "v6": "ipv6"}
    return {f"net/{families[key[:2]]}/conf/{name}/{key[3:]}": value for key, value in values.items()}
