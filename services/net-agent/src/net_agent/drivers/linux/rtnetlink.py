"""Messages of rtnetlink(7), packed and taken apart by hand: a general netlink library takes half a millisecond for each
interface, entry or queue. Everything here blocks and acts on the calling thread's namespace."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

# linux/netlink.h
NLM_F_REQUEST, NLM_F_ACK, NLM_F_REPLACE, NLM_F_DUMP, NLM_F_CREATE = 0x1, 0x4, 0x100, 0x300, 0x400
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLA_TYPE_MASK = 0x3FFF
_HEADER, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=HH")

RECEIVE_OCTETS = 1 << 18


def opened() -> socket.socket:
    link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * RECEIVE_OCTETS)
    link.bind((0, 0))
    return link


def message(kind: int, flags: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, NLM_F_REQUEST | flags, 1, 0) + body


def attribute(kind: int, value: bytes) -> bytes:
    padding = bytes(-len(value) % 4)
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + padding


def attributes(content: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """(type, value) of each from there on; a nested one's value has attributes itself."""
    while offset + _ATTRIBUTE.size <= len(content):
        length, kind = _ATTRIBUTE.unpack_from(content, offset)
        yield kind & _NLA_TYPE_MASK, content[offset + _ATTRIBUTE.size : offset + length]
        offset += length + 3 & ~3


def split(received: bytes) -> Iterator[tuple[int, bytes]]:
    """(message type, what is after its header)."""
    offset = 0
    while offset + _HEADER.size <= len(received):
        length, kind, *_ = _HEADER.unpack_from(received, offset)
        yield kind, received[offset + _HEADER.size : offset + length]
        offset += length + 3 & ~3


def dump(link: socket.socket, kind: int, body: bytes, what: str) -> Iterator[bytes]:
    """The content of each message of an answer. what: for the error. Raises OSError."""
    link.send(message(kind, NLM_F_DUMP, body))
    while True:
        for found, content in split(link.recv(RECEIVE_OCTETS)):
            if found == _NLMSG_DONE:
                return
            if found == _NLMSG_ERROR:
                code = -struct.unpack_from("=i", content)[0]
                raise OSError(code, f"{what} can't be read: {os.strerror(code)}")
            yield content
