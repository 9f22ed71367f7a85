"""One DNS question (RFC 1035, section 4): does this dnsmasq answer, and has it read what it was told to read?

dnsmasq reads all its files in one go between two answers, so an answer for a name that only the newest files hold
proves that the leases of the newest files are served too. Blocks.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from ipaddress import IPv4Address

_PORT = 53
_QUESTION_FLAGS = 0x0100  # a standard query, recursion desired
_TYPE_A, _CLASS_IN = 1, 1
_TRY_TIMEOUT_S = 0.1


def question(name: str, query_id: int, kind: int = _TYPE_A) -> bytes:
    """For a name's records of a kind, A unless told."""
    labels = b"".join(bytes([len(label)]) + label.encode("ascii") for label in name.split("."))
    header = struct.pack("!HHHHHH", query_id, _QUESTION_FLAGS, 1, 0, 0, 0)
    return header + labels + struct.pack("!BHH", 0, kind, _CLASS_IN)


def answers(reply: bytes, query_id: int) -> bool:
    """A response to this question, without an error, with at least one record."""
    if len(reply) < 12:
        return False
    reply_id, flags, _, records = struct.unpack("!HHHH", reply[:8])
    return reply_id == query_id and flags & 0x8000 != 0 and flags & 0x000F == 0 and records > 0


def resolves(name: str, server: IPv4Address, timeout_s: float) -> bool:
    """Asks until the name is known or the time is over; runs in the network's namespace."""
    deadline = time.monotonic() + timeout_s
    while True:
        if _ask(name, server):
            return True
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return False
        time.sleep(min(0.01, remaining))


def _ask(name: str, server: IPv4Address) -> bool:
    query_id = int.from_bytes(os.urandom(2))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.settimeout(_TRY_TIMEOUT_S)
        asker.connect((str(server), _PORT))
        try:
            asker.send(question(name, query_id))
            return answers(asker.recv(512), query_id)
        except (TimeoutError, ConnectionRefusedError):
            return False
