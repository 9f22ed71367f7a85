"""What answers guests on one network of this host: namespace, veth pair, dnsmasq, metadata proxy."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from core.ids import dhcp_namespace
from net_agent.drivers.linux import dhcp_link, proxy
from net_agent.drivers.linux.dnsmasq import Dnsmasq
from net_agent.drivers.linux.dnsmasq_config import NetworkPaths
from net_agent.drivers.linux.leases import LeaseEntry
from net_agent.drivers.linux.namespace import Namespaces
from net_agent.drivers.linux.neighbours import confirmed_neighbours
from net_agent.drivers.linux.process import stop
from net_agent.drivers.linux.proxy import MetadataProxyProcess, ProxyIdentity
from net_agent.model import Network, Peer, Port

T = TypeVar("T")


class GuestServices:
    """One network's. folder: where its files are."""

    def __init__(self, namespaces: Namespaces, identity: ProxyIdentity, network_id: str, folder: Path) -> None:
        self._namespaces = namespaces
        self._network_id = network_id
        self._namespace = dhcp_namespace(network_id)
        self._paths = NetworkPaths(folder)
        self._proxy = MetadataProxyProcess(identity, network_id, folder, namespaces.path(self._namespace))

    async def ensure(self, network: Network, ports: Sequence[Port], peers: Sequence[Peer]) -> None:
        """All of it is there, knows these ports and peers, and no dead port's lease is in the way of one of them.

        The network's bridge exists. Raises NetworkFault.
        """
        await self._namespaces.create(self._namespace)
        path = self._namespaces.path(self._namespace)
        await self._namespaces.on_host(lambda: dhcp_link.ensure_outer(network, path))
        await self._inside(lambda: dhcp_link.ensure_inner(network))
        ipv6, guests = self._ipv6_interface(network), proxy.guests_of(ports)
        # Both to their end, whatever becomes of the other: no thread is left at work when the network is let go.
        outcomes = await asyncio.gather(
            self._inside(lambda: self._ensure_dhcp(network, ports, peers)),
            self._namespaces.on_host(lambda: self._proxy.ensure(ipv6, guests)),
            return_exceptions=True,
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    def _ensure_dhcp(self, network: Network, ports: Sequence[Port], peers: Sequence[Peer]) -> None:
        dnsmasq = Dnsmasq(network, self._paths)
        dnsmasq.ensure(ports, peers)
        dnsmasq.release(stale_leases(dnsmasq.leases(), ports))

    async def dhcp_serves(self, network: Network, ports: Sequence[Port], peers: Sequence[Peer]) -> bool:
        """DHCP and DNS answer, know these ports and peers, and hold no lease that is in the way of one."""
        if stale_leases(await asyncio.to_thread(self.leases), ports):
            return False
        return await self._inside_if_there(
            lambda: dhcp_link.inner_stands(network) and Dnsmasq(network, self._paths).serves(ports, peers)
        )

    def _ipv6_interface(self, network: Network) -> str:
        """Where metadata is asked by IPv6; "": nowhere."""
        return dhcp_link.inner_device(self._network_id) if network.has_ipv6 else ""

    async def metadata_serves(self, network: Network, ports: Sequence[Port]) -> bool:
        ipv6, guests = self._ipv6_interface(network), proxy.guests_of(ports)
        if not await self._namespaces.on_host(lambda: self._proxy.runs(ipv6, guests)):
            return False
        return await self._inside_if_there(proxy.listens)

    def leases(self) -> list[LeaseEntry]:
        return Dnsmasq.leases_in(self._paths)

    async def neighbours(self) -> frozenset[tuple[str, str]]:
        """(MAC address, address) of everyone who lately has confirmed to be there."""
        try:
            return await self._inside(lambda: confirmed_neighbours(dhcp_link.inner_device(self._network_id)))
        except FileNotFoundError:
            return frozenset()

    async def remove(self) -> None:
        """Nothing of it is left but the files. Absent is success."""
        await self._namespaces.on_host(self._proxy.stop)
        await self._namespaces.on_host(lambda: stop(Dnsmasq.marker(self._paths), self._paths.pid))
        await self._namespaces.on_host(lambda: dhcp_link.remove_outer(self._network_id))
        await self._namespaces.delete(self._namespace)

    def remove_files(self) -> None:
        """DHCP's, leases, logs. Blocks."""
        if self._paths.folder.exists():
            shutil.rmtree(self._paths.folder)

    async def _inside(self, function: Callable[[], T]) -> T:
        return await self._namespaces.inside(self._namespace, function)

    async def _inside_if_there(self, function: Callable[[], bool]) -> bool:
        try:
            return await self._inside(function)
        except FileNotFoundError:
            return False


def stale_leases(leases: Sequence[LeaseEntry], ports: Sequence[Port]) -> list[LeaseEntry]:
    """Leases that no active port of this host has a right to: their port is gone, or its address is another's now."""
    rights = {(port.mac_address, address) for port in ports if port.active for address in port.addresses}
    return [lease for lease in leases if (lease.mac_address, lease.ip_address) not in rights]
