"""What is on a wire: every frame that an interface sends or gets, seen from its namespace (packet(7))."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

ETH_P_ALL = 3
_PACKET_OUTGOING = 4
# linux/if_packet.h: the kernel takes a frame's 802.1Q tag out of it, and tells of it beside.
_SOL_PACKET, _PACKET_AUXDATA = 263, 8
_AUXDATA = struct.Struct("=IIIHHHH")
_TP_STATUS_VLAN_VALID = 1 << 4
_VID_BITS = 0x0FFF


@dataclass(frozen=True, slots=True)
class Frame:
    """`vlan`: the number in its tag; None: it has none."""

    outgoing: bool
    content: bytes
    vlan: int | None = None

    @property
    def source(self) -> str:
        return self.content[6:12].hex(":")


class Capture:
    """Of what passes an interface of the namespace that it is made in; read anywhere."""

    def __init__(self, interface: str) -> None:
        self._listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._listener.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        self._listener.bind((interface, 0))
        self._listener.setblocking(False)

    def frames(self) -> Iterator[Frame]:
        """Those until now that were not told yet."""
        while True:
            try:
                content, told, _, (_, _, kind, *_) = self._listener.recvmsg(65_535, socket.CMSG_SPACE(_AUXDATA.size))
            except BlockingIOError:
                return
            yield Frame(kind == _PACKET_OUTGOING, content, _vlan(told))

    def close(self) -> None:
        self._listener.close()


def _vlan(told: list[tuple[int, int, bytes]]) -> int | None:
    for level, kind, data in told:
        if (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA):
            status, _, _, _, _, tag, _ = _AUXDATA.unpack_from(data)
            return tag & _VID_BITS if status & _TP_STATUS_VLAN_VALID else None
    return None
