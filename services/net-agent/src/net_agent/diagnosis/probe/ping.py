"""ICMP echo of the host's own, to other hosts (RFC 792, 4443), by raw sockets (raw(7), icmp(7)).

Datagrams may be fragmented, as those of tunnels may: what is asked is whether they arrive.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from ipaddress import ip_address

from net_agent.diagnosis.probe.frames import checksum
from net_agent.drivers.linux.namespace import Namespaces
from net_agent.model import IpAddress

_HEADER = struct.Struct("!BBHI")
_REQUEST, _REPLY = {4: 8, 6: 128}, {4: 0, 6: 129}
_IP_HEADER = {4: 20, 6: 40}
# linux/icmp.h and linux/icmpv6.h: options by which a raw socket hears some types alone; a bit set keeps one out.
_SOL_RAW, _ICMP_FILTER, _ICMP6_FILTER = 255, 1, 1
_RECEIVED_OCTETS = 65_536


async def reached(
    namespaces: Namespaces, source: IpAddress, targets: Collection[IpAddress], octets: int, patience_s: float
) -> set[IpAddress]:
    """Those of the targets, of the source's family, that answer a packet of so many octets, IP header included.

    Asked from the host's namespace, twice. Raises OSError when the source is none of the host's addresses.
    """
    opened = await namespaces.on_host(lambda: _open(source))
    try:
        return await _ask(opened, source, targets, octets, patience_s)
    finally:
        opened.close()


async def _ask(
    opened: socket.socket, source: IpAddress, targets: Collection[IpAddress], octets: int, patience_s: float
) -> set[IpAddress]:
    family, number = source.version, random.getrandbits(32)
    body = _request(family, number, octets - _IP_HEADER[family])
    answered: set[IpAddress] = set()
    with _listening(opened) as heard:
        for _ in range(2):
            for target in targets:
                if target not in answered:
                    _send(opened, body, target)
            try:
                async with asyncio.timeout(patience_s / 2):
                    while not answered.issuperset(targets):
                        sender, said = await heard.get()
                        if _answers(family, said, number):
                            answered.add(sender)
            except TimeoutError:
                continue
            break
    return answered & set(targets)


@contextmanager
def _listening(opened: socket.socket) -> Iterator[asyncio.Queue[tuple[IpAddress, bytes]]]:
    heard: asyncio.Queue[tuple[IpAddress, bytes]] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def hear() -> None:
        try:
            said, sender = opened.recvfrom(_RECEIVED_OCTETS)
        except OSError:
            # Nothing more just now, or word of a target that can't be reached: it does not answer, which is told.
            return
        heard.put_nowait((ip_address(sender[0].partition("%")[0]), said))

    loop.add_reader(opened, hear)
    try:
        yield heard
    finally:
        loop.remove_reader(opened)


def _open(source: IpAddress) -> socket.socket:
    six = source.version == 6
    family, protocol = (socket.AF_INET6, socket.IPPROTO_ICMPV6) if six else (socket.AF_INET, socket.IPPROTO_ICMP)
    opened = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
    try:
        if six:
            opened.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, _all_but_bit(_REPLY[6], words=8))
        else:
            opened.setsockopt(_SOL_RAW, _ICMP_FILTER, _all_but_bit(_REPLY[4], words=1))
        opened.bind((str(source), 0))
    except OSError:
        opened.close()
        raise
    return opened


def _all_but_bit(number: int, *, words: int) -> bytes:
    bits = [0xFFFF_FFFF] * words
    bits[number // 32] &= ~(1 << number % 32) & 0xFFFF_FFFF
    return struct.pack(f"={words}I", *bits)


def _send(opened: socket.socket, body: bytes, target: IpAddress) -> None:
    try:
        opened.sendto(body, (str(target), 0))
    except OSError:
        # No way there: nobody answers, which is what is told.
        return


def _request(family: int, number: int, octets: int) -> bytes:
    """The kernel puts in ICMPv6's checksum itself (RFC 3542, section 3.1)."""
    rest = bytes(max(0, octets - _HEADER.size))
    total = checksum(_HEADER.pack(_REQUEST[4], 0, 0, number) + rest) if family == 4 else 0
    return _HEADER.pack(_REQUEST[family], 0, total, number) + rest


def _answers(family: int, said: bytes, number: int) -> bool:
    """An IPv4 packet comes with its header, an IPv6 one without."""
    at = (said[0] & 0x0F) * 4 if family == 4 and said else 0
    if len(said) < at + _HEADER.size:
        return False
    kind, _, _, identifier = _HEADER.unpack_from(said, at)
    return (kind, identifier) == (_REPLY[family], number)
