"""Giving a lease back in the name of a guest that can't any more (RFC 2131, section 4.4.6).

dnsmasq keeps an address for its last holder until the lease ends: a new port with that address would get no answer for
a day. It has no other door for this than the message that the guest itself would have sent.
"""

from __future__ import annotations

import os
import socket
import struct
from ipaddress import IPv4Address

from net_agent.drivers.linux.leases import LeaseEntry

_SERVER_PORT = 67
_BOOTREQUEST, _ETHERNET = 1, 1
_MAGIC_COOKIE = b"\x63\x82\x53\x63"
_OPTION_MESSAGE_TYPE, _OPTION_SERVER_ID, _OPTION_CLIENT_ID, _OPTION_END = 53, 54, 61, 255
_DHCPRELEASE = 7


def release_message(lease: LeaseEntry, server: IPv4Address, transaction_id: bytes) -> bytes:
    """The datagram's payload. transaction_id: four octets."""
    mac_address = bytes.fromhex(lease.mac_address.replace(":", ""))
    header = struct.pack(
        "!BBBB4sHH4s4s4s4s16s64s128s",
        _BOOTREQUEST,
        _ETHERNET,
        len(mac_address),
        0,
        transaction_id,
        0,
        0,
        lease.ip_address.packed,
        bytes(4),
        bytes(4),
        bytes(4),
        mac_address,
        b"",
        b"",
    )
    options = bytes([_OPTION_MESSAGE_TYPE, 1, _DHCPRELEASE, _OPTION_SERVER_ID, 4]) + server.packed
    if lease.client_id:
        options += bytes([_OPTION_CLIENT_ID, len(lease.client_id)]) + lease.client_id
    return header + _MAGIC_COOKIE + options + bytes([_OPTION_END])


def send_release(lease: LeaseEntry, server: IPv4Address) -> None:
    """Runs in the network's namespace. The protocol has no answer: the lease file shows whether it was heard."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(release_message(lease, server, os.urandom(4)), (str(server), _SERVER_PORT))
