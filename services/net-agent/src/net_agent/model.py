"""What a port is, checked and typed: the one place where a `PortSpec` from the wire becomes something to act on.

Values end up in file formats that are lines (dnsmasq's host file) and in device names, so nothing passes that could be
read there as something else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError
from uuid import UUID

from cirra.agent.v1 import desired_pb2
from core.errors import FieldViolation, InvalidArgument

DEFAULT_MTU = 1500
DEFAULT_DNS_DOMAIN = "novalocal"
METADATA_ADDRESS = IPv4Address("169.254.169.254")

# RFC 1123, section 2.1: letters, digits and hyphens, neither first nor last; 63 octets at most.
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOSTNAME = re.compile(rf"{_LABEL}")
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_MAC_ADDRESS = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")
# An interface name holds 15 octets (IFNAMSIZ - 1).
_TAP = re.compile(r"tap[0-9a-z-]{1,12}")
_BRIDGE = re.compile(r"brq[0-9a-z-]{1,12}")
_MTU_MIN, _MTU_MAX = 576, 65_521


@dataclass(frozen=True, slots=True)
class Subnet:
    """`dhcp_ip`: where DHCP and metadata answer on every host; None: this subnet has no DHCP."""

    subnet_id: str
    cidr: IPv4Network
    gateway_ip: IPv4Address | None
    dhcp_ip: IPv4Address | None
    dns_nameservers: tuple[IPv4Address, ...] = ()


@dataclass(frozen=True, slots=True)
class Network:
    network_id: str
    generation: int
    bridge: str
    mtu: int
    physical_network: str
    dns_domain: str
    subnets: tuple[Subnet, ...]

    @property
    def dhcp_subnets(self) -> tuple[Subnet, ...]:
        return tuple(subnet for subnet in self.subnets if subnet.dhcp_ip is not None)


@dataclass(frozen=True, slots=True)
class Port:
    """`active`: the guest runs on this host; an inactive binding is wired and answered nothing."""

    port_id: str
    mac_address: str
    device: str
    hostname: str
    addresses: tuple[IPv4Address, ...]
    network: Network
    active: bool


def port_from_spec(spec: desired_pb2.PortSpec) -> Port:
    """Raises InvalidArgument, naming each bad field."""
    check = _Checker()
    mac_address = spec.mac_address.lower()
    check.matches("port.mac_address", mac_address, _MAC_ADDRESS, "six octets such as fa:16:3e:00:00:01")
    check.matches("port.device", spec.device, _TAP, "a device name beginning with tap, 15 octets at most")
    if spec.hostname:
        check.matches("port.hostname", spec.hostname, _HOSTNAME, "a host name (RFC 1123)")
    port = Port(
        port_id=check.uuid("port.port_id", spec.port_id),
        mac_address=mac_address,
        device=spec.device,
        hostname=spec.hostname,
        addresses=tuple(check.address("port.addresses", entry.ip_address) for entry in spec.addresses),
        network=_network_from_spec(spec.network, check),
        active=spec.active,
    )
    check.finish()
    return port


def port_to_spec(port: Port) -> desired_pb2.PortSpec:
    """The inverse of `port_from_spec`, for the host's own records."""
    return desired_pb2.PortSpec(
        port_id=port.port_id,
        mac_address=port.mac_address,
        device=port.device,
        hostname=port.hostname,
        addresses=[desired_pb2.PortAddress(ip_address=str(address)) for address in port.addresses],
        active=port.active,
        network=network_to_spec(port.network),
    )


def network_from_spec(spec: desired_pb2.NetworkSpec) -> Network:
    """Raises InvalidArgument, naming each bad field."""
    check = _Checker()
    network = _network_from_spec(spec, check)
    check.finish()
    return network


def network_to_spec(network: Network) -> desired_pb2.NetworkSpec:
    return desired_pb2.NetworkSpec(
        network_id=network.network_id,
        generation=network.generation,
        bridge=network.bridge,
        mtu=network.mtu,
        physical_network=network.physical_network,
        dns_domain=network.dns_domain,
        subnets=[_subnet_to_spec(subnet) for subnet in network.subnets],
    )


def _subnet_to_spec(subnet: Subnet) -> desired_pb2.SubnetSpec:
    return desired_pb2.SubnetSpec(
        subnet_id=subnet.subnet_id,
        cidr=str(subnet.cidr),
        gateway_ip=str(subnet.gateway_ip or ""),
        dhcp_ip=str(subnet.dhcp_ip or ""),
        dns_nameservers=[str(server) for server in subnet.dns_nameservers],
    )


def _network_from_spec(spec: desired_pb2.NetworkSpec, check: _Checker) -> Network:
    mtu = spec.mtu or DEFAULT_MTU
    domain = spec.dns_domain.rstrip(".") or DEFAULT_DNS_DOMAIN
    check.matches("port.network.bridge", spec.bridge, _BRIDGE, "a device name beginning with brq, 15 octets at most")
    check.matches("port.network.dns_domain", domain, _DOMAIN, "a domain name (RFC 1123)")
    if not _MTU_MIN <= mtu <= _MTU_MAX:
        check.violate("port.network.mtu", f"{mtu} is not within {_MTU_MIN} to {_MTU_MAX}")
    return Network(
        network_id=check.uuid("port.network.network_id", spec.network_id),
        generation=spec.generation,
        bridge=spec.bridge,
        mtu=mtu,
        physical_network=spec.physical_network,
        dns_domain=domain,
        subnets=tuple(_subnet_from_spec(subnet, check) for subnet in spec.subnets),
    )


def _subnet_from_spec(spec: desired_pb2.SubnetSpec, check: _Checker) -> Subnet:
    field = "port.network.subnets"
    return Subnet(
        subnet_id=check.uuid(f"{field}.subnet_id", spec.subnet_id),
        cidr=check.network(f"{field}.cidr", spec.cidr),
        gateway_ip=check.address(f"{field}.gateway_ip", spec.gateway_ip) if spec.gateway_ip else None,
        dhcp_ip=check.address(f"{field}.dhcp_ip", spec.dhcp_ip) if spec.dhcp_ip else None,
        dns_nameservers=tuple(check.address(f"{field}.dns_nameservers", text) for text in spec.dns_nameservers),
    )


class _Checker:
    """Collects violations, so that one answer names all of them; the stand-in values never leave this module."""

    def __init__(self) -> None:
        self._violations: list[FieldViolation] = []

    def violate(self, field: str, description: str) -> None:
        self._violations.append(FieldViolation(field, description))

    def matches(self, field: str, value: str, pattern: re.Pattern[str], wanted: str) -> None:
        if not pattern.fullmatch(value):
            self.violate(field, f"{value!r} is not {wanted}")

    def uuid(self, field: str, text: str) -> str:
        try:
            return str(UUID(text))
        except ValueError:
            self.violate(field, f"{text!r} is not a UUID")
            return ""

    def address(self, field: str, text: str) -> IPv4Address:
        try:
            return IPv4Address(text)
        except AddressValueError:
            self.violate(field, f"{text!r} is not an IPv4 address")
            return IPv4Address(0)

    def network(self, field: str, text: str) -> IPv4Network:
        try:
            return IPv4Network(text)
        except (AddressValueError, NetmaskValueError, ValueError):
            self.violate(field, f"{text!r} is not an IPv4 network such as 10.0.0.0/24")
            return IPv4Network(0)

    def finish(self) -> None:
        if self._violations:
            raise InvalidArgument(*self._violations)
