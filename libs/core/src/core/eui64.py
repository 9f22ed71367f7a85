"""Addresses that a guest makes of its MAC address (RFC 4291, section 2.5.1 and appendix A; RFC 4862)."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

PREFIX_LENGTH = 64
LINK_LOCAL = IPv6Network("fe80::/64")

# The bit that says that an identifier is unique in the world; it is inverted in interface identifiers.
_UNIVERSAL = 0x02
_MIDDLE = b"\xff\xfe"


def address_of_mac(prefix: IPv6Network, mac_address: str) -> IPv6Address:
    """The address of a prefix of 64 bits that follows from a MAC address, "fa:16:3e:0a:1b:2c".

    Raises ValueError for another prefix length, and for what is no MAC address.
    """
    if prefix.prefixlen != PREFIX_LENGTH:
        raise ValueError(f"{prefix} has no room for an interface identifier of 64 bits")
    octets = bytes.fromhex(mac_address.replace(":", ""))
    if len(octets) != 6:
        raise ValueError(f"{mac_address!r} is no MAC address")
    identifier = bytes([octets[0] ^ _UNIVERSAL]) + octets[1:3] + _MIDDLE + octets[3:]
    return prefix.network_address + int.from_bytes(identifier, "big")


def mac_of_address(address: IPv6Address) -> str | None:
    """The MAC address that an address was made of; None for one that was made otherwise."""
    identifier = address.packed[8:]
    if identifier[3:5] != _MIDDLE:
        return None
    return (bytes([identifier[0] ^ _UNIVERSAL]) + identifier[1:3] + identifier[5:]).hex(":")
