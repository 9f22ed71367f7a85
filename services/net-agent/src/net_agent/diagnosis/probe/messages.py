"""What probes say: a DHCPDISCOVER (RFC 2131) and what a DHCPOFFER to it says; pure. DNS: `drivers.linux.dns_probe`."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

from net_agent.diagnosis.probe.frames import (
    BROADCAST,
    ETH_IPV4,
    UDP,
    Datagram,
    Frame,
    ethernet,
    mac_octets,
    udp,
)

CLIENT, SERVER = 68, 67
_BOOTREQUEST, _BOOTREPLY, _ETHERNET = 1, 2, 1
_COOKIE = b"\x63\x82\x53\x63"
_MESSAGE_TYPE, _SERVER_ID, _PARAMETERS, _PAD, _END = 53, 54, 55, 0, 255
_DISCOVER, _OFFER = 1, 2
_HEADER = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s")
_ANYWHERE, _EVERYWHERE = IPv4Address("0.0.0.0"), IPv4Address("255.255.255.255")


@dataclass(frozen=True, slots=True)
class Offer:
    address: IPv4Address
    server: IPv4Address


def discover(mac: str, transaction: int) -> bytes:
    """A frame. A server offers, and keeps nothing: no REQUEST follows."""
    octets = mac_octets(mac)
    header = _HEADER.pack(
        _BOOTREQUEST, _ETHERNET, 6, 0, transaction, 0, 0, bytes(4), bytes(4), bytes(4), bytes(4), octets, b"", b""
    )
    options = bytes([_MESSAGE_TYPE, 1, _DISCOVER, _PARAMETERS, 3, 1, 3, 6, _END])
    packet = udp(_ANYWHERE, _EVERYWHERE, CLIENT, SERVER, header + _COOKIE + options)
    return ethernet(BROADCAST, mac, ETH_IPV4, packet)


def offer(frame: Frame, transaction: int) -> Offer | None:
    """What is offered to this transaction; None for any other frame."""
    said = frame.content
    if not isinstance(said, Datagram) or (said.protocol, said.sport) != (UDP, SERVER):
        return None
    if not isinstance(said.source, IPv4Address):
        return None
    octets = said.payload
    start = _HEADER.size + len(_COOKIE)
    if len(octets) < start or octets[0] != _BOOTREPLY or octets[_HEADER.size : start] != _COOKIE:
        return None
    if int.from_bytes(octets[4:8]) != transaction:
        return None
    options = _options(octets[start:])
    if options.get(_MESSAGE_TYPE) != bytes([_OFFER]):
        return None
    server = options.get(_SERVER_ID, b"")
    return Offer(IPv4Address(octets[16:20]), IPv4Address(server) if len(server) == 4 else said.source)


def _options(octets: bytes) -> dict[int, bytes]:
    """By code (RFC 2132); what is cut off at the end is left out."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(octets) and octets[at] != _END:
        if octets[at] == _PAD:
            at += 1
            continue
        if at + 1 >= len(octets):
            break
        length = octets[at + 1]
        found[octets[at]] = octets[at + 2 : at + 2 + length]
        at += 2 + length
    return found
