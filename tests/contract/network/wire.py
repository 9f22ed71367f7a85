"""What is on a wire: every frame that an interface sends or gets, seen from its namespace (packet(7))."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass

ETH_P_ALL = 3
_PACKET_OUTGOING = 4


@dataclass(frozen=True, slots=True)
class Frame:
    outgoing: bool
    content: bytes

    @property
    def source(self) -> str:
        return self.content[6:12].hex(":")


class Capture:
    """Of what passes an interface of the namespace that it is made in; read anywhere."""

    def __init__(self, interface: str) -> None:
        self._listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._listener.bind((interface, 0))
        self._listener.setblocking(False)

    def frames(self) -> Iterator[Frame]:
        """Those until now that were not told yet."""
        while True:
            try:
                content, (_, _, kind, *_) = self._listener.recvfrom(65_535)
            except BlockingIOError:
                return
            yield Frame(kind == _PACKET_OUTGOING, content)

    def close(self) -> None:
        self._listener.close()
