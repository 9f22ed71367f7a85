"""A guest as its metadata shows it: pure."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from cirra.compute.v1.events_pb2 import InstanceCreated

DOMAIN = "novalocal"
DEFAULT_ZONE = "nova"


@dataclass(frozen=True, slots=True)
class Subnet:
    """`gateway`: empty if there is none. `dhcp`: its addresses are given out by DHCP."""

    subnet_id: str
    cidr: str
    gateway: str
    dhcp: bool
    nameservers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FixedIp:
    address: str
    subnet: Subnet

    @property
    def is_ipv6(self) -> bool:
        return ":" in self.address


@dataclass(frozen=True, slots=True)
class SecurityGroup:
    group_id: str
    name: str


@dataclass(frozen=True, slots=True)
class FloatingIp:
    """`fixed_address`: to which it leads."""

    address: str
    fixed_address: str


@dataclass(frozen=True, slots=True)
class Nic:
    """`mtu` in octets. `security_groups`: by name. `floating_ips`: in the order of the addresses they lead to."""

    port_id: str
    network_id: str
    mac_address: str
    mtu: int
    fixed_ips: tuple[FixedIp, ...]
    security_groups: tuple[SecurityGroup, ...] = ()
    floating_ips: tuple[FloatingIp, ...] = ()


@dataclass(frozen=True, slots=True)
class Guest:
    """`created`: as accepted, without its user data. `host_zone`: of the host it is on; empty if that has none."""

    instance_id: UUID
    created: InstanceCreated
    host_zone: str
    has_user_data: bool
    nics: tuple[Nic, ...]

    @property
    def zone(self) -> str:
        return self.host_zone or DEFAULT_ZONE

    @property
    def fqdn(self) -> str:
        return f"{self.created.hostname}.{DOMAIN}"

    @property
    def public_key(self) -> str:
        """One line, with its end."""
        return f"{self.created.public_key.strip()}\n"

    @property
    def fixed_ip(self) -> str:
        """The IPv4 address of the first interface; empty if there is none."""
        return next((fixed.address for nic in self.nics[:1] for fixed in nic.fixed_ips if not fixed.is_ipv6), "")

    @property
    def floating_ip(self) -> str:
        """The first of the first interface that has one; empty if none leads to it."""
        return next((floating.address for nic in self.nics for floating in nic.floating_ips), "")

    @property
    def group_names(self) -> tuple[str, ...]:
        """Of the security groups that its interfaces are in, each once."""
        return tuple(dict.fromkeys(group.name for nic in self.nics for group in nic.security_groups))
