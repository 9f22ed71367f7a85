"""A guest's DHCP client in the middle of a lease (RFC 2131, section 4.3.2, RENEWING). Blocks."""

from __future__ import annotations

import os
import socket
import struct
import time
from ipaddress import IPv4Address

from net_agent.model import IpAddress
from tests.contract.network.waiting import PATIENCE_S

ACK, NAK = 5, 6
_AGAIN_S = 2.0
_REQUEST = 3
_COOKIE = b"\x63\x82\x53\x63"


def renewal(mac_address: str, address: IpAddress, server: IPv4Address) -> int | None:
    """Asks the server to go on with the lease on *address*, which the guest uses. The kind of its answer, or None."""
    transaction = os.urandom(4)
    deadline = time.monotonic() + PATIENCE_S
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind((str(address), 68))
        client.settimeout(_AGAIN_S)
        while time.monotonic() < deadline:
            client.sendto(_request(transaction, mac_address, address), (str(server), 67))
            try:
                answer = client.recv(1500)
            except TimeoutError:
                continue
            assert answer[4:8] == transaction
            return _message_type(answer)
    return None


def _request(transaction: bytes, mac_address: str, address: IpAddress) -> bytes:
    hardware = bytes.fromhex(mac_address.replace(":", ""))
    header = struct.pack("!BBBB4sHH4s12s16s192s", 1, 1, 6, 0, transaction, 0, 0, address.packed, b"", hardware, b"")
    return header + _COOKIE + bytes([53, 1, _REQUEST, 255])


def _message_type(answer: bytes) -> int | None:
    """Option 53."""
    options = answer[240:]
    while options and options[0] != 255:
        if options[0] == 53:
            return options[2]
        options = options[1:] if options[0] == 0 else options[2 + options[1] :]
    return None
