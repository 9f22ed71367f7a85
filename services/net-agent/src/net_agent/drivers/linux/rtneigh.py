"""Neighbour and forwarding tables of the kernel (rtnetlink(7), RTM_*NEIGH): thousands of entries, read and set cheaply.

Every entry is a message of a few dozen octets (`rtnetlink`). Everything here blocks and acts on the calling thread's
namespace.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from net_agent.drivers.linux import rtnetlink
from net_agent.model import IpAddress

# linux/rtnetlink.h, linux/neighbour.h
_RTM_NEWNEIGH, _RTM_DELNEIGH, _RTM_GETNEIGH = 28, 29, 30
_NDA_DST, _NDA_LLADDR = 1, 2
_NTF_SELF, _NTF_MASTER = 0x02, 0x04
_NUD_NOARP, _NUD_PERMANENT = 0x40, 0x80
_NDMSG = struct.Struct("=BBHiHBB")

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
    with rtnetlink.opened() as link:
        for family in (AF_BRIDGE, socket.AF_INET, socket.AF_INET6):
            found.update(entry for entry in _dump(link, family) if entry.index in indexes)
    return found


def change_entries(surplus: Collection[Entry], missing: Collection[Entry]) -> None:
    """Takes the one away and sets the other; what is absent already, is. Raises OSError for what the kernel refuses."""
    replaced = {entry.identity for entry in missing}
    gone = [_message(_RTM_DELNEIGH, entry) for entry in surplus if entry.identity not in replaced]
    new = [_message(_RTM_NEWNEIGH, entry) for entry in missing]
    with rtnetlink.opened() as link:
        _send(link, gone, tolerated=_ABSENT)
        _send(link, new)


def _message(kind: int, entry: Entry) -> bytes:
    flags, state = 0, _NUD_PERMANENT
    if entry.family == AF_BRIDGE:
        flags = _NTF_MASTER if entry.address is None else _NTF_SELF
        # In a bridge, "permanent" would be the bridge's own address.
        state = _NUD_NOARP if entry.address is None else _NUD_PERMANENT | _NUD_NOARP
    body = _NDMSG.pack(entry.family, 0, 0, entry.index, state, flags, 0)
    body += rtnetlink.attribute(_NDA_LLADDR, bytes.fromhex(entry.mac_address.replace(":", "")))
    if entry.address is not None:
        body += rtnetlink.attribute(_NDA_DST, entry.address.packed)
    create = rtnetlink.NLM_F_CREATE | rtnetlink.NLM_F_REPLACE if kind == _RTM_NEWNEIGH else 0
    return rtnetlink.message(kind, rtnetlink.NLM_F_ACK | create, body)


def _send(link: socket.socket, messages: list[bytes], tolerated: Collection[int] = ()) -> None:
    for start in range(0, len(messages), _AT_ONCE):
        batch = messages[start : start + _AT_ONCE]
        link.send(b"".join(batch))
        awaited = len(batch)
        while awaited:
            for _, body in rtnetlink.split(link.recv(rtnetlink.RECEIVE_OCTETS)):
                awaited -= 1
                code = -struct.unpack_from("=i", body)[0]
                if code and code not in tolerated:
                    raise OSError(code, f"a neighbour was refused: {os.strerror(code)}")


def _dump(link: socket.socket, family: int) -> Iterator[Entry]:
    body = _NDMSG.pack(family, 0, 0, 0, 0, 0, 0)
    for content in rtnetlink.dump(link, _RTM_GETNEIGH, body, "the neighbours"):
        entry = _entry(content)
        if entry is not None:
            yield entry


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
    for kind, value in rtnetlink.attributes(content, _NDMSG.size):
        if kind == _NDA_LLADDR:
            mac_address = value
        elif kind == _NDA_DST:
            address = ip_address(value)
    if len(mac_address) != 6 or (flags & _NTF_SELF and address is None):
        return None
    return Entry(family, index, mac_address.hex(":"), address)
