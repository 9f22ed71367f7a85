"""What a guest sends while its port is plugged and unplugged: at no moment more than the rules let through."""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from ipaddress import IPv4Address

import pytest

from net_agent.drivers.linux.namespace import enter
from net_agent.model import IpAddress, Port
from tests.contract.network.guest import open_tap
from tests.contract.network.hosts import LinuxHost, make_network, make_port
from tests.contract.network.waiting import until
from tests.contract.network.wire import Capture

pytestmark = pytest.mark.root

ROUNDS = 8
PAUSE_S = 0.0005
FOREIGN_MAC = "52:54:00:66:66:66"
ARP, EVERYBODY = 0x0806, b"\xff" * 6


def announcement(mac_address: str, address: IpAddress) -> bytes:
    """Tells everybody whose IPv4 address this is (RFC 5227, 3: an ARP announcement)."""
    mac = bytes.fromhex(mac_address.replace(":", ""))
    head = EVERYBODY + mac + struct.pack("!H", ARP)
    return head + struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + address.packed + bytes(6) + address.packed


class Babbler(threading.Thread):
    """A guest that sends these frames by turns, over and over, from the moment its tap exists until it does not."""

    def __init__(self, host: LinuxHost, port: Port, frames: list[bytes]) -> None:
        super().__init__(name=f"babbler {port.device}")
        self._namespace, self._device, self._frames = host.namespace, port.device, frames
        self._ended = threading.Event()

    def run(self) -> None:
        enter(self._namespace)
        while not self._ended.wait(PAUSE_S):
            with suppress(OSError):  # there is no such interface now
                socket.if_nametoindex(self._device)
                self._babble(open_tap(self._device))

    def _babble(self, tap: int) -> None:
        poll = select.poll()
        poll.register(tap, select.POLLERR)
        try:
            while not self._ended.wait(PAUSE_S):
                for frame in self._frames:
                    with suppress(OSError):  # it is not up yet, or no more
                        os.write(tap, frame)
                if poll.poll(0):
                    socket.if_nametoindex(self._device)
        finally:
            os.close(tap)

    @contextmanager
    def babbling(self) -> Iterator[None]:
        self.start()
        try:
            yield
        finally:
            self._ended.set()
            self.join()


async def test_no_lie_passes_while_a_port_comes_and_goes(linux: LinuxHost) -> None:
    network = make_network()
    listener, port = make_port(network, 11), make_port(network, 12)
    await linux.driver.plug(listener)
    ear = await (await linux.guest(listener)).inside(lambda: Capture("eth0"))
    truth = announcement(port.mac_address, port.addresses[0])
    lies = [
        announcement(FOREIGN_MAC, port.addresses[0]),
        announcement(port.mac_address, listener.addresses[0]),
        announcement(port.mac_address, IPv4Address("10.77.0.1")),
    ]
    heard: list[bytes] = []

    async def tells(frame: bytes) -> bool:
        heard.extend(each.content for each in ear.frames())
        return frame in heard

    try:
        with Babbler(linux, port, [truth, *lies]).babbling():
            for _ in range(ROUNDS):
                await linux.driver.plug(port)
                await until(partial(tells, truth))
                await linux.driver.unplug(port.port_id)
                await tells(truth)
                assert [lie for lie in lies if lie in heard] == []
                heard.clear()
    finally:
        ear.close()
