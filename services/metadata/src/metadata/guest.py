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
class Nic:
    """`mtu` in octets."""

    port_id: str
    network_id: str
    mac_address: str
    mtu: int
    fixed_ips: tuple[FixedIp, ...]


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
