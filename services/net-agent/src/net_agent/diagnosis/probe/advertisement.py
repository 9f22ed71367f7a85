"""What neighbour discovery says (RFC 4861, sections 4.2, 4.4, 4.6); pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network

from net_agent.diagnosis.probe.frames import ICMPV6, NEIGHBOUR_ADVERT, ROUTER_ADVERT, Datagram, Frame

_PREFIX = 3


@dataclass(frozen=True, slots=True)
class Advertisement:
    """`lifetime_s` 0: who sends it is no default router."""

    router: IPv6Address
    lifetime_s: int
    prefixes: frozenset[IPv6Network]


def advertisement(frame: Frame) -> Advertisement | None:
    """None for anything else than a router's advertisement."""
    said = frame.content
    if not isinstance(said, Datagram) or (said.protocol, said.kind) != (ICMPV6, ROUTER_ADVERT):
        return None
    if not isinstance(said.source, IPv6Address):
        return None
    # Behind hop limit, flags and lifetime come two timers of 32 bits, then options.
    prefixes = frozenset(
        IPv6Network((value[14:30], value[0]), strict=False)
        for kind, value in _options(said.payload[8:])
        if kind == _PREFIX and len(value) == 30 and value[0] <= 128
    )
    return Advertisement(said.source, said.identifier & 0xFFFF, prefixes)


def neighbour(frame: Frame, target: IPv6Address, asker: str) -> str | None:
    """Who has an address, if this tells the asker so; not what somebody tells everybody."""
    said = frame.content
    if not isinstance(said, Datagram) or (said.protocol, said.kind) != (ICMPV6, NEIGHBOUR_ADVERT):
        return None
    if said.payload[:16] != target.packed or frame.destination_mac != asker:
        return None
    return frame.source_mac


def _options(octets: bytes) -> Iterator[tuple[int, bytes]]:
    """By type, without type and length; what is cut off at the end is left out."""
    while len(octets) >= 8 and octets[1]:
        length = octets[1] * 8
        if length > len(octets):
            return
        yield octets[0], octets[2:length]
        octets = octets[length:]
