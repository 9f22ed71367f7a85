"""Follows probes from interface to interface: a packet socket on each (packet(7))."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from net_agent.diagnosis.probe.frames import parse
from net_agent.diagnosis.probe.trail import Trail, trail
from net_agent.diagnosis.probe.voice import FRAME_OCTETS, listening_socket
from net_agent.drivers.linux.namespace import Namespaces

# More than all probes together; a guest that does the same much may fill it up.
_MOST = 4_096


@dataclass(frozen=True, slots=True)
class Place:
    """An interface on the path. `namespace`: empty: the host's own."""

    device: str
    what: str
    namespace: str = ""


@dataclass(slots=True)
class Watch:
    """What passed an interface; `listener` None: there is no such interface, or it is down."""

    place: Place
    listener: socket.socket | None
    seen: set[Trail] = field(default_factory=set)

    def heard(self) -> None:
        assert self.listener is not None
        while True:
            try:
                frame = parse(self.listener.recv(FRAME_OCTETS))
            except OSError:
                # Nothing more just now (EAGAIN), or the interface is gone or down (ENETDOWN).
                return
            if frame is not None and (found := trail(frame)) is not None and len(self.seen) < _MOST:
                self.seen.add(found)


@asynccontextmanager
async def watching(namespaces: Namespaces, places: Sequence[Place]) -> AsyncIterator[list[Watch]]:
    """Listens at these places as long as the block lasts."""
    loop = asyncio.get_running_loop()
    watches = [Watch(place, await _listener(namespaces, place)) for place in places]
    opened = [(watch, watch.listener) for watch in watches if watch.listener is not None]
    try:
        for watch, listener in opened:
            loop.add_reader(listener, watch.heard)
        yield watches
    finally:
        for _, listener in opened:
            loop.remove_reader(listener)
            listener.close()


async def _listener(namespaces: Namespaces, place: Place) -> socket.socket | None:
    def open_one() -> socket.socket | None:
        try:
            return listening_socket(place.device)
        except OSError:
            return None

    if not place.namespace:
        return await namespaces.on_host(open_one)
    try:
        return await namespaces.inside(place.namespace, open_one)
    except FileNotFoundError:
        return None
