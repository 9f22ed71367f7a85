"""Checking the fields of a specification: one answer names all that is wrong with it."""

from __future__ import annotations

import re
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from uuid import UUID

from core.errors import FieldViolation, InvalidArgument

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network
IpInterface = IPv4Interface | IPv6Interface

# RFC 1123, section 2.1: letters, digits and hyphens, neither first nor last; 63 octets at most.
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOSTNAME = re.compile(rf"{_LABEL}")
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_MAC_ADDRESS = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")
# An interface name holds 15 octets (IFNAMSIZ - 1).
_DEVICE_SUFFIX = r"[0-9a-z-]{1,12}"
_MTU_MIN, _MTU_MAX = 576, 65_521


class Checker:
    """Collects violations; the stand-in values of bad fields never leave the model, since `finish` raises."""

    def __init__(self) -> None:
        self._violations: list[FieldViolation] = []

    def violate(self, field: str, description: str) -> None:
        self._violations.append(FieldViolation(field, description))

    def finish(self) -> None:
        """Raises InvalidArgument when anything was wrong."""
        if self._violations:
            raise InvalidArgument(*self._violations)

    def matches(self, field: str, value: str, pattern: re.Pattern[str], wanted: str) -> str:
        if not pattern.fullmatch(value):
            self.violate(field, f"{value!r} is not {wanted}")
        return value

    def between(self, field: str, value: int, low: int, high: int) -> int:
        if not low <= value <= high:
            self.violate(field, f"{value} is not within {low} to {high}")
        return value

    def uuid(self, field: str, text: str) -> str:
        try:
            return str(UUID(text))
        except ValueError:
            self.violate(field, f"{text!r} is not a UUID")
            return ""

    def mac_address(self, field: str, text: str) -> str:
        return self.matches(field, text.lower(), _MAC_ADDRESS, "six octets such as fa:16:3e:00:00:01")

    def device(self, field: str, name: str, prefix: str) -> str:
        pattern = re.compile(prefix + _DEVICE_SUFFIX)
        return self.matches(field, name, pattern, f"a device name beginning with {prefix}, 15 octets at most")

    def hostname(self, field: str, name: str) -> str:
        """Empty: none."""
        return self.matches(field, name, _HOSTNAME, "a host name (RFC 1123)") if name else ""

    def domain(self, field: str, name: str) -> str:
        return self.matches(field, name, _DOMAIN, "a domain name (RFC 1123)")

    def mtu(self, field: str, octets: int) -> int:
        return self.between(field, octets, _MTU_MIN, _MTU_MAX)

    def address(self, field: str, text: str) -> IpAddress:
        try:
            return ip_address(text)
        except ValueError:
            self.violate(field, f"{text!r} is not an IP address")
            return IPv4Address(0)

    def address_of(self, field: str, text: str, network: IpNetwork) -> IpAddress:
        """An address of the network's family."""
        address = self.address(field, text)
        if address.version != network.version:
            self.violate(field, f"{text!r} is of another family than {network}")
        return address

    def network(self, field: str, text: str) -> IpNetwork:
        """A single address is a network of one."""
        try:
            return ip_network(text)
        except ValueError:
            self.violate(field, f"{text!r} is not an IP network such as 10.0.0.0/24")
            return IPv4Network(0)

    def interface(self, field: str, text: str) -> IpInterface:
        """An address with the length of its network's prefix."""
        try:
            if "/" in text:
                return ip_interface(text)
        except ValueError:
            pass
        self.violate(field, f"{text!r} is not an address with its prefix length, such as 10.0.0.1/24")
        return IPv4Interface(0)
