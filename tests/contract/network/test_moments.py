"""A guest that lies all the time gets nothing through in the moments of plugging and unplugging either.

It has its tap open from when that is there until it is gone; and nft takes its time, so that moments are long.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address

import pytest

from net_agent.diagnosis.probe.frames import BROADCAST, ETH_IPV4, arp_request, ethernet, udp
from net_agent.drivers.linux import nftables
from net_agent.drivers.linux.tap import IFF_NO_PI, IFF_TAP, TUNSETIFF
from net_agent.model import Port
from tests.contract.network.guest import Guest
from tests.contract.network.hosts import LinuxHost, make_network, make_port
from tests.contract.network.waiting import PATIENCE_S, until
from tests.contract.network.wire import Capture

pytestmark = pytest.mark.root

# Before and after each transaction of nft: two hundred lies would get through.
MOMENT_S, PAUSE_S = 0.4, 0.002
# Of its rounds: what is heard must not fill the listener's memory of what is to be looked at.
TRUE_ROUNDS = 25
ROUNDS = 2
ALL, FOREIGN_MAC, FOREIGN = IPv4Address("255.255.255.255"), "fa:16:3e:66:66:66", IPv4Address("10.77.0.66")
LIE, TRUTH = b"cirra-lie", b"cirra-truth"
_ETH_IPV6 = 0x86DD


def lies(port: Port) -> list[bytes]:
    own = IPv4Address(str(port.addresses[0]))
    # RFC 4861, 4.2: of a router that is everybody's, with its hop limit of 255. Nobody gets as far as its checksum.
    router = struct.pack("!BBHI", 134, 0, 0, 64 << 24) + LIE
    head = struct.pack("!IHBB16s16s", 6 << 28, len(router), 58, 255, b"\xfe\x80" + bytes(14), b"\xff\x02" + bytes(14))
    return [
        ethernet(BROADCAST, FOREIGN_MAC, ETH_IPV4, udp(own, ALL, 7, 7, LIE)),
        ethernet(BROADCAST, port.mac_address, ETH_IPV4, udp(FOREIGN, ALL, 7, 7, LIE)),
        ethernet(BROADCAST, port.mac_address, ETH_IPV4, udp(own, ALL, 67, 68, LIE)),
        arp_request(port.mac_address, FOREIGN, own) + LIE,
        ethernet("33:33:00:00:00:01", port.mac_address, _ETH_IPV6, head + router),
    ]


@dataclass(slots=True)
class Liar:
    """`run` in its host's namespace: it waits for the port's tap, and returns when that is gone, or it is told to."""

    port: Port
    told: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        own = IPv4Address(str(self.port.addresses[0]))
        false, true = lies(self.port), arp_request(self.port.mac_address, own, own) + TRUTH
        tap = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            self._open(tap)
            number = 0
            while not self.told.is_set() and self._send(tap, false if number % TRUE_ROUNDS else [*false, true]):
                number += 1
                time.sleep(PAUSE_S)
        finally:
            os.close(tap)

    def _open(self, tap: int) -> None:
        """As soon as it is there, and nobody else has it open."""
        request = struct.pack("16sH22x", self.port.device.encode(), IFF_TAP | IFF_NO_PI)
        while not self.told.is_set():
            try:
                socket.if_nametoindex(self.port.device)
                fcntl.ioctl(tap, TUNSETIFF, request)
            except OSError:
                time.sleep(PAUSE_S / 10)
            else:
                return

    def _send(self, tap: int, frames: Collection[bytes]) -> bool:
        """False: there is no tap any more."""
        for frame in frames:
            try:
                os.write(tap, frame)
            except OSError as error:
                if error.errno == errno.EBADFD:
                    return False
                # EIO: it is not up.
                assert error.errno in (errno.EIO, errno.EAGAIN), error
        return True


@asynccontextmanager
async def heard_by(guest: Guest) -> AsyncIterator[list[bytes]]:
    """What comes to it, in the end all of it."""
    capture = await guest.inside(lambda: Capture("eth0"))
    seen: list[bytes] = []

    async def listen() -> None:
        while True:
            seen.extend(frame.content for frame in capture.frames() if not frame.outgoing)
            await asyncio.sleep(0.01)

    listening = asyncio.create_task(listen())
    try:
        yield seen
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        capture.close()


def telling(heard: Collection[bytes], what: bytes) -> int:
    return sum(what in frame for frame in heard)


async def test_no_moment_lets_a_lie_pass(linux: LinuxHost, monkeypatch: pytest.MonkeyPatch) -> None:
    network, apply = make_network(), nftables.apply
    honest, port = make_port(network, 11), make_port(network, 12)

    def slowly(script: str) -> None:
        time.sleep(MOMENT_S)
        apply(script)
        time.sleep(MOMENT_S)

    await linux.driver.plug(honest)
    monkeypatch.setattr(nftables, "apply", slowly)
    async with heard_by(await linux.guest(honest)) as heard:
        for _ in range(ROUNDS):
            liar, truths = Liar(port), telling(heard, TRUTH)
            lying = asyncio.create_task(linux.namespaces.on_host(liar.run))
            try:
                await linux.driver.plug(port)

                async def is_heard(truths: int = truths) -> bool:
                    return telling(heard, TRUTH) > truths

                await until(is_heard)
                await linux.driver.unplug(port.port_id)
                await asyncio.wait([lying], timeout=PATIENCE_S)
                assert lying.done(), "it sent until its tap was gone"
            finally:
                liar.told.set()
                await lying
        assert telling(heard, LIE) == 0
