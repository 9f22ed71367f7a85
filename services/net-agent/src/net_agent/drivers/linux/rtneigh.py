"""Neighbour and forwarding tables of the kernel (rtnetlink(7), RTM_*NEIGH): thousands of entries, read and set cheaply.

Every entry is a message of a few dozen octets; a general netlink library takes half a millisecond for each. Everything
here blocks and acts on the calling thread's namespace.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from net_agent.model import IpAddress

# linux/rtnetlink.h, linux/netlink.h, linux/neighbour.h
_RTM_NEWNEIGH, _RTM_DELNEIGH, _RTM_GETNEIGH = 28, 29, 30
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_REPLACE, _NLM_F_DUMP, _NLM_F_CREATE = 0x1, 0x4, 0x100, 0x300, 0x400
_NDA_DST, _NDA_LLADDR = 1, 2
_NTF_SELF, _NTF_MASTER = 0x02, 0x04
_NUD_NOARP, _NUD_PERMANENT = 0x40, 0x80
_HEADER, _NDMSG, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=BBHiHBB"), struct.Struct("=HH")

_RECEIVE_OCTETS = 1 << 18
# As many as the socket's buffer takes answers to.
_AT_ONCE = 256
_ABSENT = (errno.ENOENT, errno.ENODEV)

AF_BRIDGE = 7


@dataclass(frozen=True, slots=True)
class Entry:
    """One that stays until it is taken away.

    family: AF_INET or AF_INET6: a neighbour, `address` is at `mac_address`. AF_BRIDGE: frames to `mac_address` leave by
    this interface; with an address, which is a tunnel's, they are sent there.
    """

    family: int
    index: int
    mac_address: str
    address: IpAddress | None

    @property
    def identity(self) -> tuple[object, ...]:
        """Two entries with the same one replace each other."""
        if self.family == AF_BRIDGE:
            return self.family, self.index, self.mac_address, self.address is None
        return self.family, self.index, self.address


def forwarding(index: int, mac_address: str, tunnel_address: IpAddress | None = None) -> Entry:
    """In a bridge, that the MAC address is behind its port; in a tunnel, at which other end."""
    return Entry(AF_BRIDGE, index, mac_address, tunnel_address)


def neighbour(index: int, address: IpAddress, mac_address: str) -> Entry:
    return Entry(socket.AF_INET if address.version == 4 else socket.AF_INET6, index, mac_address, address)


def read_entries(indexes: Collection[int]) -> set[Entry]:
    """All lasting entries at these interfaces, but for the addresses of the interfaces themselves."""
    found: set[Entry] = set()
    with _opened() as link:
        for family in (AF_BRIDGE, socket.AF_INET, socket.AF_INET6):
            found.update(entry for entry in _dump(link, family) if entry.index in indexes)
    return found


def change_entries(surplus: Collection[Entry], missing: Collection[Entry]) -> None:
    """Takes the one away and sets the other; what is absent already, is. Raises OSError for what the kernel refuses."""
    replaced = {entry.identity for entry in missing}
    gone = [_message(_RTM_DELNEIGH, entry) for entry in surplus if entry.identity not in replaced]
    new = [_message(_RTM_NEWNEIGH, entry) for entry in missing]
    with _opened() as link:
        _send(link, gone, tolerated=_ABSENT)
        _send(link, new)


def _opened() -> socket.socket:
    link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * _RECEIVE_OCTETS)
    link.bind((0, 0))
    return link


def _message(kind: int, entry: Entry) -> bytes:
    flags, state = 0, _NUD_PERMANENT
    if entry.family == AF_BRIDGE:
        flags = _NTF_MASTER if entry.address is None else _NTF_SELF
        # In a bridge, "permanent" would be the bridge's own address.
        state = _NUD_NOARP if entry.address is None else _NUD_PERMANENT | _NUD_NOARP
    body = _NDMSG.pack(entry.family, 0, 0, entry.index, state, flags, 0)
    body += _attribute(_NDA_LLADDR, bytes.fromhex(entry.mac_address.replace(":", "")))
    if entry.address is not None:
        body += _attribute(_NDA_DST, entry.address.packed)
    create = _NLM_F_CREATE | _NLM_F_REPLACE if kind == _RTM_NEWNEIGH else 0
    return _HEADER.pack(_HEADER.size + len(body), kind, _NLM_F_REQUEST | _NLM_F_ACK | create, 1, 0) + body


def _attribute(kind: int, value: bytes) -> bytes:
    padding = bytes(-len(value) % 4)
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + padding


def _send(link: socket.socket, messages: list[bytes], tolerated: Collection[int] = ()) -> None:
    for start in range(0, len(messages), _AT_ONCE):
        batch = messages[start : start + _AT_ONCE]
        link.send(b"".join(batch))
        awaited = len(batch)
        while awaited:
            for _, body in _split(link.recv(_RECEIVE_OCTETS)):
                awaited -= 1
                code = -struct.unpack_from("=i", body)[0]
                if code and code not in tolerated:
                    raise OSError(code, f"a neighbour was refused: {os.strerror(code)}")


def _dump(link: socket.socket, family: int) -> Iterator[Entry]:
    body = _NDMSG.pack(family, 0, 0, 0, 0, 0, 0)
    link.send(_HEADER.pack(_HEADER.size + len(body), _RTM_GETNEIGH, _NLM_F_REQUEST | _NLM_F_DUMP, 1, 0) + body)
    while True:
        for kind, content in _split(link.recv(_RECEIVE_OCTETS)):
            if kind == _NLMSG_DONE:
                return
            if kind == _NLMSG_ERROR:
                code = -struct.unpack_from("=i", content)[0]
                raise OSError(code, f"the neighbours can't be read: {os.strerror(code)}")
            entry = _entry(content)
            if entry is not None:
                yield entry


def _split(received: bytes) -> Iterable[tuple[int, bytes]]:
    """(message type, what is after its header)."""
    offset = 0
    while offset + _HEADER.size <= len(received):
        length, kind, *_ = _HEADER.unpack_from(received, offset)
        yield kind, received[offset + _HEADER.size : offset + length]
        offset += length + 3 & ~3


def _entry(content: bytes) -> Entry | None:
    """None for one that comes and goes by itself, or is the interface's own."""
    family, _, _, index, state, flags, _ = _NDMSG.unpack_from(content)
    if family == AF_BRIDGE and not flags & _NTF_SELF:
        lasting = state & (_NUD_NOARP | _NUD_PERMANENT) == _NUD_NOARP
    else:
        lasting = bool(state & _NUD_PERMANENT)
    if not lasting:
        return None
    mac_address, address = b"", None
    offset = _NDMSG.size
    while offset + _ATTRIBUTE.size <= len(content):
        length, kind = _ATTRIBUTE.unpack_from(content, offset)
        value = content[offset + _ATTRIBUTE.size : offset + length]
        if kind == _NDA_LLADDR:
            mac_address = value
        elif kind == _NDA_DST:
            address = ip_address(value)
        offset += length + 3 & ~3
    if len(mac_address) != 6 or (flags & _NTF_SELF and address is None):
        return None
    return Entry(family, index, mac_address.hex(":"), address)
