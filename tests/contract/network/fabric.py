"""Two hosts that reach each other, and what the conductor would tell each of the other's ports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from net_agent.model import Network, NetworkKind, Peer, Port
from tests.contract.network.guest import Guest
from tests.contract.network.hosts import UNDERLAY, LinuxHost, make_network, make_port

UNDERLAY_MTU = 1500


def make_vxlan(vni: int, cidr: str = "10.77.0.0/24", **changes: Any) -> Network:
    return make_network(cidr, kind=NetworkKind.VXLAN, segmentation_id=vni, **changes)


def make_peer(network: Network, number: int) -> Peer:
    """One on a host that nobody will ever reach."""
    return _peer(make_port(network, number), host="host-9", tunnel_address=IPv4Address("192.0.2.9"))


def peer_of(port: Port, host: LinuxHost, **changes: Any) -> Peer:
    """The port as other hosts are told of it."""
    return _peer(port, **({"host": host.name, "tunnel_address": host.tunnel_address} | changes))


def _peer(port: Port, **changes: Any) -> Peer:
    fields: dict[str, Any] = {
        "port_id": port.port_id,
        "network_id": port.network.network_id,
        "mac_address": port.mac_address,
        "addresses": port.addresses,
        "hostname": port.hostname,
    }
    return Peer(**(fields | changes))


@dataclass(frozen=True, slots=True)
class Fabric:
    first: LinuxHost
    second: LinuxHost

    def other(self, host: LinuxHost) -> LinuxHost:
        return self.second if host is self.first else self.first

    async def plug(self, host: LinuxHost, network: Network, number: int) -> Port:
        """A port on one host, which the other is told of."""
        port = make_port(network, number)
        await host.driver.plug(port)
        await self.other(host).driver.keep(peer_of(port, host))
        return port

    async def boot(self, host: LinuxHost, network: Network, number: int) -> Guest:
        """As `plug`, and its guest has its address."""
        guest = await host.guest(await self.plug(host, network, number))
        assert await guest.dhcp() is not None
        return guest


@asynccontextmanager
async def two_hosts(folder: Path) -> AsyncIterator[Fabric]:
    hosts = []
    for number in (1, 2):
        own = folder / f"host-{number}"
        own.mkdir()
        host = LinuxHost(own, tunnel_address=IPv4Address(f"192.0.2.{number}"), netns=own / "netns")
        await host.start()
        hosts.append(host)
    fabric = Fabric(*hosts)
    try:
        await _join(fabric)
        yield fabric
    finally:
        for host in hosts:
            await host.stop()
            # The agent leaves the folder for named namespaces as it shared it.
            await (await asyncio.create_subprocess_exec("umount", str(host.folder / "netns"))).wait()


async def _join(fabric: Fabric) -> None:
    first, second = fabric.first, fabric.second
    target = str(second.namespace)
    await first.command("ip", "link", "add", UNDERLAY, "type", "veth", "peer", "name", "under1")
    await first.command("ip", "link", "set", "under1", "netns", target)
    await second.command("ip", "link", "set", "under1", "name", UNDERLAY)
    for host in (first, second):
        await host.command("ip", "addr", "add", f"{host.tunnel_address}/24", "dev", UNDERLAY)
        await host.command("ip", "link", "set", UNDERLAY, "mtu", str(UNDERLAY_MTU), "up")
