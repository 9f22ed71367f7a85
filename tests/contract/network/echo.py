"""ICMP echo (RFC 792, RFC 4443) by a raw socket (raw(7)): asked again until an answer to any of the questions comes.

ping(8) waits for an answer to each, and a second at that: a neighbour who has to be found first, or a machine that is
busy, takes longer. Blocks.
"""

from __future__ import annotations

import os
import socket
import struct
import time

from net_agent.diagnosis.probe.frames import checksum

_REQUEST, _REPLY = {4: 8, 6: 128}, {4: 0, 6: 129}
_PROTOCOL = {4: (socket.AF_INET, socket.IPPROTO_ICMP), 6: (socket.AF_INET6, socket.IPPROTO_ICMPV6)}
_TOKEN_OCTETS = 12
_RECEIVED_OCTETS = 65_536


def answered(address: str, *, within_s: float, every_s: float, octets: int = 56) -> bool:
    """octets: what an echo carries beside its headers. Without a way to the address there is no answer, either."""
    version = 6 if ":" in address else 4
    family, protocol = _PROTOCOL[version]
    token = os.urandom(_TOKEN_OCTETS)
    question = _request(version, token.ljust(octets, b"\0"))
    deadline = time.monotonic() + within_s
    with socket.socket(family, socket.SOCK_RAW, protocol) as opened:
        while (now := time.monotonic()) < deadline:
            try:
                opened.sendto(question, (address, 0))
            except OSError:
                # No way there, or none yet.
                time.sleep(min(every_s, deadline - now))
                continue
            if _heard(opened, version, token, min(now + every_s, deadline)):
                return True
    return False


def _request(version: int, body: bytes) -> bytes:
    """The kernel puts in ICMPv6's checksum itself (RFC 3542, section 3.1)."""
    head = struct.pack("!BB", _REQUEST[version], 0)
    total = checksum(head + bytes(2) + body) if version == 4 else 0
    return head + struct.pack("!H", total) + body


def _heard(opened: socket.socket, version: int, token: bytes, until: float) -> bool:
    while (left := until - time.monotonic()) > 0:
        opened.settimeout(left)
        try:
            said = opened.recv(_RECEIVED_OCTETS)
        except TimeoutError:
            return False
        # An IPv4 packet comes with its header, an IPv6 one without.
        message = said[(said[0] & 0x0F) * 4 :] if version == 4 else said
        if message[:1] == bytes([_REPLY[version]]) and message[4 : 4 + len(token)] == token:
            return True
    return False
