"""Guests that connect to one another: namespaces behind the taps of their ports, at the addresses of these."""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from net_agent.model import Port
from tests.contract.network.guest import Guest
from tests.contract.network.hosts import LinuxHost
from tests.contract.network.waiting import PATIENCE_S

# TCP sends again after twice as long each time: what was in vain for a while may take as long again, and more.
ARRIVES_S = 2 * PATIENCE_S
# Time for a packet that is sent again to be dropped again.
IN_VAIN_S = 1.5


class Station:
    """A guest at its address, with ports that listen."""

    def __init__(self, guest: Guest, port: Port) -> None:
        self._guest = guest
        self.port = port
        self.address = str(port.addresses[0])
        self.run = guest.run
        self.guest = guest
        # One that nobody knows any more is closed.
        self._listening: list[socket.socket] = []

    async def listens(self, number: int, family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
        def listen() -> socket.socket:
            made = socket.create_server(("", number), family=family)
            made.settimeout(ARRIVES_S)
            return made

        made = await self._guest.inside(listen)
        self._listening.append(made)
        return made

    async def connects(self, address: str, number: int, *, within_s: float = ARRIVES_S) -> socket.socket | None:
        """None: nobody answers."""
        deadline = time.monotonic() + within_s

        def connect() -> socket.socket | None:
            while (left := deadline - time.monotonic()) > 0:
                try:
                    return socket.create_connection((address, number), timeout=left)
                except TimeoutError:
                    return None
                except OSError as error:
                    # Not even ARP was answered: by nobody, or by somebody who had no time for it.
                    if error.errno != errno.EHOSTUNREACH:
                        raise
            return None

        return await self._guest.inside(connect)

    async def is_refused(self, address: str, number: int) -> bool:
        """Asked once, and again after a second (RFC 6298, section 2.1): neither is answered."""
        return await self.connects(address, number, within_s=IN_VAIN_S) is None


@asynccontextmanager
async def stations(linux: LinuxHost, *ports: Port) -> AsyncIterator[list[Station]]:
    made = []
    for port in ports:
        await linux.driver.plug(port)
        guest = await linux.guest(port)
        await guest.address(f"{port.addresses[0]}/24")
        made.append(Station(guest, port))
    yield made


async def passes(one: socket.socket, other: socket.socket, *, within_s: float = ARRIVES_S) -> bool:
    """Whether what one end sends gets to the other."""

    def try_it() -> bool:
        one.sendall(b"x")
        other.settimeout(within_s)
        try:
            return other.recv(1) == b"x"
        except TimeoutError:
            return False

    return await asyncio.to_thread(try_it)
