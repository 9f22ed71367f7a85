"""Ethernet frames as a guest would send them, and what frames say (pure).

Sources: RFC 826 (ARP), 791 (IPv4), 768 (UDP), 792 (ICMP), 9293 (TCP), 8200 (IPv6), 4443 (ICMPv6). `frames6` makes
those of IPv6.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

BROADCAST = "ff:ff:ff:ff:ff:ff"
ETH_IPV4, ETH_ARP, ETH_IPV6 = 0x0800, 0x0806, 0x86DD
ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
ARP_REQUEST, ARP_REPLY = 1, 2
ECHO_REPLY, UNREACHABLE, ECHO_REQUEST = 0, 3, 8
ECHO_REQUEST6, ECHO_REPLY6 = 128, 129
ROUTER_SOLICIT, ROUTER_ADVERT, NEIGHBOUR_SOLICIT, NEIGHBOUR_ADVERT = 133, 134, 135, 136
TCP_SYN, TCP_RST, TCP_ACK = 0x02, 0x04, 0x10

_ARP = struct.Struct("!HHBBH6s4s6s4s")
_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_IPV6_OCTETS = 40
_TTL = 64
_WINDOW = 1024


@dataclass(frozen=True, slots=True)
class Arp:
    operation: int
    sender_mac: str
    sender: IPv4Address
    target: IPv4Address


@dataclass(frozen=True, slots=True)
class Datagram:
    """An IP packet. `sport`, `dport`: UDP's and TCP's. `flags`, `acknowledged`: TCP's.

    `kind`, `identifier`: ICMP's type, and the 32 bits behind its checksum, in an echo its identifier and sequence
    number. `payload`: what follows these.
    """

    source: IPv4Address | IPv6Address
    destination: IPv4Address | IPv6Address
    protocol: int
    sport: int = 0
    dport: int = 0
    flags: int = 0
    acknowledged: int = 0
    kind: int = -1
    identifier: int = 0
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Frame:
    """`content` None: neither ARP nor the first fragment of an IPv4 packet, or an IPv6 packet without extensions, that
    is whole as far as is of interest."""

    destination_mac: str
    source_mac: str
    content: Arp | Datagram | None


# ---- making


def ethernet(destination: str, source: str, ethertype: int, payload: bytes) -> bytes:
    return mac_octets(destination) + mac_octets(source) + struct.pack("!H", ethertype) + payload


def arp_request(mac: str, sender: IPv4Address, target: IPv4Address) -> bytes:
    body = _ARP.pack(1, ETH_IPV4, 6, 4, ARP_REQUEST, mac_octets(mac), sender.packed, bytes(6), target.packed)
    return ethernet(BROADCAST, mac, ETH_ARP, body)


def ipv4(source: IPv4Address, destination: IPv4Address, protocol: int, payload: bytes) -> bytes:
    """Without options, not fragmented."""
    fields = (0x45, 0, _IPV4.size + len(payload), 0, 0x4000, _TTL, protocol)
    header = _IPV4.pack(*fields, 0, source.packed, destination.packed)
    return _IPV4.pack(*fields, checksum(header), source.packed, destination.packed) + payload


def udp(source: IPv4Address, destination: IPv4Address, sport: int, dport: int, payload: bytes) -> bytes:
    """A whole IPv4 packet."""
    length = 8 + len(payload)
    pseudo = source.packed + destination.packed + struct.pack("!BBH", 0, UDP, length)
    ports = struct.pack("!HHH", sport, dport, length)
    total = checksum(pseudo + ports + bytes(2) + payload) or 0xFFFF
    return ipv4(source, destination, UDP, ports + struct.pack("!H", total) + payload)


def tcp_syn(source: IPv4Address, destination: IPv4Address, sport: int, dport: int, sequence: int) -> bytes:
    """A whole IPv4 packet."""
    pseudo = source.packed + destination.packed + struct.pack("!BBH", 0, TCP, 20)
    total = checksum(pseudo + tcp_syn_header(sport, dport, sequence))
    return ipv4(source, destination, TCP, tcp_syn_header(sport, dport, sequence, total))


def tcp_syn_header(sport: int, dport: int, sequence: int, total: int = 0) -> bytes:
    """total: its checksum, which is of a pseudo-header too."""
    return struct.pack("!HHIIBBHHH", sport, dport, sequence, 0, 5 << 4, TCP_SYN, _WINDOW, total, 0)


def echo_request(source: IPv4Address, destination: IPv4Address, identifier: int) -> bytes:
    """A whole IPv4 packet. identifier: 32 bits, the echo's identifier and sequence number."""
    body = struct.pack("!I", identifier) + b"cirra network diagnose"
    total = checksum(struct.pack("!BBH", ECHO_REQUEST, 0, 0) + body)
    return ipv4(source, destination, ICMP, struct.pack("!BBH", ECHO_REQUEST, 0, total) + body)


def checksum(octets: bytes) -> int:
    """RFC 1071."""
    if len(octets) % 2:
        octets += b"\0"
    total = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def mac_octets(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


# ---- reading


def parse(octets: bytes) -> Frame | None:
    """None for what is too short to be a frame. Checksums aren't looked at: the sender's card may owe them yet."""
    if len(octets) < 14:
        return None
    ethertype, body = int.from_bytes(octets[12:14]), octets[14:]
    content: Arp | Datagram | None = None
    if ethertype == ETH_ARP and len(body) >= _ARP.size:
        content = _arp(body)
    elif ethertype == ETH_IPV4 and len(body) >= _IPV4.size:
        content = _datagram(body)
    elif ethertype == ETH_IPV6 and len(body) >= _IPV6_OCTETS:
        content = _datagram6(body)
    return Frame(octets[0:6].hex(":"), octets[6:12].hex(":"), content)


def _arp(body: bytes) -> Arp:
    _, _, _, _, operation, sender_mac, sender, _, target = _ARP.unpack_from(body)
    return Arp(operation, sender_mac.hex(":"), IPv4Address(sender), IPv4Address(target))


def _datagram(body: bytes) -> Datagram | None:
    header = (body[0] & 0x0F) * 4
    length = int.from_bytes(body[2:4])
    protocol, source, destination = body[9], IPv4Address(body[12:16]), IPv4Address(body[16:20])
    rest = body[header:length]
    if int.from_bytes(body[6:8]) & 0x1FFF:
        return None
    return _content(source, destination, protocol, rest)


def _datagram6(body: bytes) -> Datagram | None:
    length, protocol = int.from_bytes(body[4:6]), body[6]
    source, destination = IPv6Address(body[8:24]), IPv6Address(body[24:40])
    return _content(source, destination, protocol, body[_IPV6_OCTETS : _IPV6_OCTETS + length])


def _content(
    source: IPv4Address | IPv6Address, destination: IPv4Address | IPv6Address, protocol: int, rest: bytes
) -> Datagram | None:
    if len(rest) < 8:
        return None
    if protocol == UDP:
        sport, dport = struct.unpack_from("!HH", rest)
        return Datagram(source, destination, protocol, sport, dport, payload=rest[8:])
    if protocol == TCP and len(rest) >= 20:
        sport, dport, _, acknowledged, _, flags = struct.unpack_from("!HHIIBB", rest)
        return Datagram(source, destination, protocol, sport, dport, flags, acknowledged)
    if protocol in (ICMP, ICMPV6):
        identifier = int.from_bytes(rest[4:8])
        return Datagram(source, destination, protocol, kind=rest[0], identifier=identifier, payload=rest[8:])
    return Datagram(source, destination, protocol)
