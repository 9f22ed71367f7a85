"""IPv6 packets as a guest would send them (pure).

Sources: RFC 8200 (IPv6), 4443 (ICMPv6), 4861 (neighbour discovery), 768 (UDP), 9293 (TCP).
"""

from __future__ import annotations

import struct
from ipaddress import IPv6Address

from net_agent.diagnosis.probe.frames import (
    ECHO_REQUEST6,
    ICMPV6,
    NEIGHBOUR_SOLICIT,
    ROUTER_SOLICIT,
    TCP,
    UDP,
    checksum,
    mac_octets,
    tcp_syn_header,
)

ALL_ROUTERS = IPv6Address("ff02::2")
_VERSION = 6 << 28
# Neighbour discovery is heard by those on the link alone: nobody has passed it on (RFC 4861, 7.1.1).
_ND_HOPS, _HOPS = 255, 64
_SOURCE_LINK_LAYER_ADDRESS = 1
_SOLICITED_NODES = IPv6Address("ff02::1:ff00:0")


def group_mac(group: IPv6Address) -> str:
    """Of a multicast address (RFC 2464, section 7)."""
    return (b"\x33\x33" + group.packed[12:]).hex(":")


def solicited_node(address: IPv6Address) -> IPv6Address:
    """The group that whoever has an address hears (RFC 4291, section 2.7.1)."""
    return IPv6Address(_SOLICITED_NODES.packed[:13] + address.packed[13:])


def router_solicitation(source: IPv6Address, mac: str) -> bytes:
    return _icmpv6(source, ALL_ROUTERS, ROUTER_SOLICIT, bytes(4) + _link_layer_address(mac), _ND_HOPS)


def neighbour_solicitation(source: IPv6Address, mac: str, target: IPv6Address) -> bytes:
    body = bytes(4) + target.packed + _link_layer_address(mac)
    return _icmpv6(source, solicited_node(target), NEIGHBOUR_SOLICIT, body, _ND_HOPS)


def echo_request6(source: IPv6Address, destination: IPv6Address, identifier: int) -> bytes:
    """identifier: 32 bits, the echo's identifier and sequence number."""
    body = struct.pack("!I", identifier) + b"cirra network diagnose"
    return _icmpv6(source, destination, ECHO_REQUEST6, body, _HOPS)


def udp6(source: IPv6Address, destination: IPv6Address, sport: int, dport: int, payload: bytes) -> bytes:
    head = struct.pack("!HHH", sport, dport, 8 + len(payload))
    total = _checksum(source, destination, UDP, head + bytes(2) + payload) or 0xFFFF
    return _ipv6(source, destination, UDP, head + struct.pack("!H", total) + payload, _HOPS)


def tcp_syn6(source: IPv6Address, destination: IPv6Address, sport: int, dport: int, sequence: int) -> bytes:
    total = _checksum(source, destination, TCP, tcp_syn_header(sport, dport, sequence))
    return _ipv6(source, destination, TCP, tcp_syn_header(sport, dport, sequence, total), _HOPS)


def _icmpv6(source: IPv6Address, destination: IPv6Address, kind: int, rest: bytes, hops: int) -> bytes:
    total = _checksum(source, destination, ICMPV6, struct.pack("!BBH", kind, 0, 0) + rest)
    return _ipv6(source, destination, ICMPV6, struct.pack("!BBH", kind, 0, total) + rest, hops)


def _ipv6(source: IPv6Address, destination: IPv6Address, protocol: int, payload: bytes, hops: int) -> bytes:
    return struct.pack("!IHBB", _VERSION, len(payload), protocol, hops) + source.packed + destination.packed + payload


def _checksum(source: IPv6Address, destination: IPv6Address, protocol: int, payload: bytes) -> int:
    """With a pseudo-header (RFC 8200, section 8.1)."""
    return checksum(source.packed + destination.packed + struct.pack("!II", len(payload), protocol) + payload)


def _link_layer_address(mac: str) -> bytes:
    return bytes([_SOURCE_LINK_LAYER_ADDRESS, 1]) + mac_octets(mac)
