"""Telling everybody on a segment where an address is now: gratuitous ARP (RFC 5227, section 3; RFC 826)."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address

_BROADCAST = b"\xff" * 6
_ETHERTYPE_ARP = 0x0806
_REQUEST, _REPLY = 1, 2
_ARP = struct.Struct("!HHBBH6s4s6s4s")


def announcements(mac_address: bytes, address: IPv4Address) -> tuple[bytes, bytes]:
    """Two frames: some listen to requests only, some to answers."""
    header = _BROADCAST + mac_address + _ETHERTYPE_ARP.to_bytes(2, "big")
    fields = (1, 0x0800, 6, 4)
    request = _ARP.pack(*fields, _REQUEST, mac_address, address.packed, bytes(6), address.packed)
    reply = _ARP.pack(*fields, _REPLY, mac_address, address.packed, _BROADCAST, address.packed)
    return header + request, header + reply


def announce(device: str, addresses: Iterable[IPv4Address]) -> None:
    """Says once that these addresses are at the device's MAC address, in the calling thread's namespace. Blocks."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as raw:
        raw.bind((device, 0))
        mac_address = raw.getsockname()[4]
        for address in addresses:
            for frame in announcements(mac_address, address):
                raw.send(frame)
