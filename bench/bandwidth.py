"""A port's bandwidth as TCP finds it: between two namespaces over a bridge, both ways, at several limits.

The limits are set by the net-agent's own code, on one end of a veth pair that stands for a guest's tap. Run as root.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from pyroute2 import IPRoute

from core.ids import bridge_device, tap_device, uuid7
from net_agent.drivers.linux.bandwidth import ensure_bandwidth, read_shapes, remove_bandwidth
from net_agent.drivers.linux.links import Links, all_links
from net_agent.drivers.linux.namespace import Namespaces
from net_agent.model import Bandwidth, Network, Port

LIMITS_KBPS = (1_000, 10_000, 100_000)
PORT = 5001
GUEST, OTHER = "10.66.0.1", "10.66.0.2"


def make_port() -> Port:
    network_id, port_id = str(uuid7()), str(uuid7())
    network = Network(network_id, 1, bridge_device(network_id), 1500, "", "novalocal", ())
    return Port(port_id, "fa:16:3e:00:00:01", tap_device(port_id), "guest", (), network, active=True)


class Wires:
    """Three namespaces: a host with a bridge, a guest behind the port's device, and somebody else on the bridge."""

    def __init__(self, port: Port) -> None:
        self.port = port
        tail = os.urandom(4).hex()
        self.host, self.guest, self.other = (f"bench-{name}-{tail}" for name in ("host", "guest", "other"))
        self.namespaces = Namespaces(threads=4)

    async def lay(self) -> None:
        for name in (self.host, self.guest, self.other):
            await self.namespaces.create(name)
        bridge = self.port.network.bridge
        await self.ip(self.host, f"link add {bridge} type bridge")
        await self.ip(self.host, f"link set {bridge} up")
        for device, name, address in ((self.port.device, self.guest, GUEST), ("other0", self.other, OTHER)):
            await self.ip(self.host, f"link add {device} type veth peer name eth0 netns {name}")
            await self.ip(self.host, f"link set {device} master {bridge} up")
            await self.ip(name, f"addr add {address}/24 dev eth0")
            await self.ip(name, "link set eth0 up")

    async def ip(self, namespace: str, words: str) -> None:
        argv = ["ip", *words.split()]
        await self.namespaces.inside(namespace, lambda: subprocess.run(argv, check=True))

    async def limit(self, bandwidth: Bandwidth) -> None:
        port = replace(self.port, bandwidth=bandwidth)

        def set_it() -> None:
            with IPRoute() as ip:
                links = Links(all_links(ip))
            ensure_bandwidth(port, read_shapes([port], links)[port.port_id])

        await self.namespaces.inside(self.host, set_it)

    async def remove(self) -> None:
        await self.namespaces.inside(self.host, lambda: remove_bandwidth(self.port.port_id))
        for name in (self.host, self.guest, self.other):
            await self.namespaces.delete(name)
        self.namespaces.close()

    async def kbps(self, sender: str, receiver: str, address: str, seconds: float) -> float:
        """What TCP gets through, in 1,000 bits a second, once its window has settled."""
        listener = await self.namespaces.inside(receiver, lambda: socket.create_server((address, PORT)))
        client = await self.namespaces.inside(sender, lambda: socket.create_connection((address, PORT)))
        server, _ = listener.accept()
        pump = threading.Thread(target=_send, args=(client,))
        pump.start()
        try:
            return await asyncio.to_thread(_received_kbps, server, seconds)
        finally:
            for opened in (server, listener):
                opened.close()
            await asyncio.to_thread(pump.join)
            client.close()


def _send(client: socket.socket) -> None:
    data = b"x" * 65_536
    try:
        while True:
            client.sendall(data)
    except (ConnectionError, BrokenPipeError):
        return


def _received_kbps(server: socket.socket, seconds: float) -> float:
    """The first fifth is not counted: a burst is spent there."""
    began = time.monotonic()
    while time.monotonic() - began < seconds / 5:
        server.recv(65_536)
    received, counted_from = 0, time.monotonic()
    while (took := time.monotonic() - counted_from) < seconds * 4 / 5:
        received += len(server.recv(65_536))
    return received * 8 / 1_000 / took


@asynccontextmanager
async def wires() -> AsyncIterator[Wires]:
    laid = Wires(make_port())
    try:
        await laid.lay()
        yield laid
    finally:
        await laid.remove()


async def run(seconds: float) -> dict[str, object]:
    figures: dict[str, float] = {}
    ratio: dict[str, float] = {}
    async with wires() as laid:
        unlimited = {
            "ingress_kbps": round(await laid.kbps(laid.other, laid.guest, GUEST, seconds)),
            "egress_kbps": round(await laid.kbps(laid.guest, laid.other, OTHER, seconds)),
        }
        for limit in LIMITS_KBPS:
            await laid.limit(Bandwidth(ingress_kbps=limit, egress_kbps=limit))
            for way, ends in (
                ("ingress", (laid.other, laid.guest, GUEST)),
                ("egress", (laid.guest, laid.other, OTHER)),
            ):
                found = await laid.kbps(*ends, seconds)
                figures[f"{way}_kbps_{limit}"] = round(found)
                ratio[f"{way}_{limit}"] = round(found / limit, 3)
    return {"bench": "bandwidth", "baseline": {"unlimited": unlimited}, "figures": figures, "ratio": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    print(json.dumps(asyncio.run(run(parser.parse_args().seconds))))


if __name__ == "__main__":
    main()
