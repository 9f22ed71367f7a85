"""What a DNS server says (RFC 1035, section 4); pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

_CODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}
TYPE_A, TYPE_AAAA = 1, 28


@dataclass(frozen=True, slots=True)
class DnsReply:
    code: str
    addresses: tuple[IPv4Address | IPv6Address, ...]


def read_reply(octets: bytes, number: int) -> DnsReply | None:
    """The answer to the question of this number; None for anything else, and for what is cut off."""
    try:
        said, flags, questions, answers = struct.unpack_from("!HHHH", octets)
        if said != number or not flags & 0x8000:
            return None
        addresses: list[IPv4Address | IPv6Address] = []
        at = 12
        for _ in range(questions):
            at = _after_name(octets, at) + 4
        for _ in range(answers):
            at = _after_name(octets, at)
            kind, _, _, length = struct.unpack_from("!HHIH", octets, at)
            at += 10
            if kind == TYPE_A and length == 4:
                addresses.append(IPv4Address(octets[at : at + 4]))
            elif kind == TYPE_AAAA and length == 16:
                addresses.append(IPv6Address(octets[at : at + 16]))
            at += length
    except (struct.error, IndexError, ValueError):
        return None
    return DnsReply(_CODES.get(flags & 0x000F, f"code {flags & 0x000F}"), tuple(addresses))


def _after_name(octets: bytes, at: int) -> int:
    """Where the name that begins at an offset ends: with an empty label, or with a pointer (section 4.1.4)."""
    while (length := octets[at]) != 0:
        if length & 0xC0:
            return at + 2
        at += 1 + length
    return at + 1
