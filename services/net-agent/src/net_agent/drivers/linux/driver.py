"""Puts the parts together: bridge, rules, tap, guest services, in this order, one change per network at a time."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from core.ids import tap_device
from net_agent.drivers.base import ABSENT, DriverInfo, Lease, Neighbour, NetworkFault, PortState
from net_agent.drivers.linux import bridge, dhcp_link, tap
from net_agent.drivers.linux.census import network_parts
from net_agent.drivers.linux.faults import kernel_faults
from net_agent.drivers.linux.firewall import Firewall
from net_agent.drivers.linux.namespace import Namespaces
from net_agent.drivers.linux.proxy import ProxyIdentity
from net_agent.drivers.linux.records import Records
from net_agent.drivers.linux.service import GuestServices
from net_agent.model import Network, Port


class LinuxDriver:
    """See `NetworkDriver` for what each method promises."""

    def __init__(
        self,
        *,
        folder: Path,
        identity: ProxyIdentity,
        physical_networks: Mapping[str, str],
        namespaces: Namespaces,
    ) -> None:
        self._identity = identity
        self._uplinks = dict(physical_networks)
        self._namespaces = namespaces
        self._records = Records(folder)
        self._firewall = Firewall(namespaces)
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @property
    def info(self) -> DriverInfo:
        return DriverInfo(name="linux", simulated=False, physical_networks=tuple(sorted(self._uplinks)))

    async def plug(self, port: Port) -> None:
        known = self._records.port(port.port_id)
        if known is not None and known.network.network_id != port.network.network_id:
            raise NetworkFault(
                f"port {port.port_id} is on network {known.network.network_id} here",
                reason="PORT_MOVED",
                remedy="remove the port from this host first",
                retryable=False,
            )
        async with self._locks[port.network.network_id], kernel_faults(f"plug {port.device}"):
            uplink = self._uplink(port.network)
            network = self._records.keep(port)
            await self._namespaces.on_host(lambda: bridge.ensure_bridge(network, uplink))
            members = [port.device, dhcp_link.outer_device(network.network_id), *([uplink] if uplink else [])]
            # Before the tap exists: a guest has no moment without rules.
            await self._firewall.ensure(port, members, [uplink] if uplink else [])
            await self._namespaces.on_host(lambda: tap.ensure_tap(port))
            await self._services(network.network_id).ensure(network, self._records.ports(network.network_id))

    async def unplug(self, port_id: str) -> None:
        async with self._locked_network_of(port_id) as network_id, kernel_faults(f"unplug {port_id}"):
            known = self._records.port(port_id)
            await self._namespaces.on_host(lambda: tap.remove_tap(port_id))
            await self._firewall.remove(known.device if known else tap_device(port_id))
            if network_id is None:
                return
            remaining = [port for port in self._records.ports(network_id) if port.port_id != port_id]
            network = self._records.network(network_id)
            if remaining and network is not None:
                await self._services(network_id).ensure(network, remaining)
            elif network_id not in (await self._plugged()).values():
                await self._remove_network(network_id)
            # Last of all: who comes again after a failure must still find it.
            self._records.forget(port_id)

    async def _remove_network(self, network_id: str) -> None:
        await self._services(network_id).remove()
        members = await self._namespaces.on_host(lambda: bridge.bridge_ports(network_id))
        await self._namespaces.on_host(lambda: bridge.remove_bridge(network_id))
        await self._firewall.remove(dhcp_link.outer_device(network_id), members)
        self._records.forget_network(network_id)

    async def observe(self, port_id: str) -> PortState:
        port = self._records.port(port_id)
        if port is None:
            present = port_id in await self._plugged()
            return replace(ABSENT, present=present)
        network = self._network_of(port)
        services = self._services(network.network_id)
        uplink = self._uplinks.get(network.physical_network)
        seen = await self._namespaces.on_host(lambda: tap.observe_tap(port))
        stands = await self._namespaces.on_host(lambda: bridge.bridge_stands(network, uplink))
        guarded, dhcp, metadata = await asyncio.gather(
            self._firewall.guards(port),
            services.dhcp_serves(network, self._records.ports(network.network_id)),
            services.metadata_serves(),
        )
        return PortState(present=True, plugged=seen.plugged and stands, guarded=guarded, dhcp=dhcp, metadata=metadata)

    async def known_ports(self) -> frozenset[str]:
        recorded = (port.port_id for port in self._records.ports())
        return frozenset(recorded) | (await self._plugged()).keys()

    async def portless_networks(self) -> Mapping[str, Sequence[str]]:
        # Looked at first: a port's record comes before the first thing of its network, and goes after the last.
        found = await self._namespaces.on_host(lambda: network_parts(self._records.folder))
        known = {port.network.network_id for port in self._records.ports()} | {*(await self._plugged()).values()}
        return {network_id: parts for network_id, parts in found.items() if network_id not in known}

    async def leases(self, network_ids: frozenset[str] | None = None) -> Sequence[Lease]:
        found = []
        for network_id, ports in self._active_by_network().items():
            if network_ids is not None and network_id not in network_ids:
                continue
            owners = {(port.mac_address, address): port for port in ports for address in port.addresses}
            for entry in await asyncio.to_thread(self._services(network_id).leases):
                owner = owners.get((entry.mac_address, entry.ip_address))
                if owner is not None:
                    found.append(Lease(owner.port_id, entry.mac_address, str(entry.ip_address), entry.hostname))
        return found

    async def neighbours(self, network_ids: frozenset[str] | None = None) -> Sequence[Neighbour]:
        found = []
        for network_id, ports in self._active_by_network().items():
            if network_ids is not None and network_id not in network_ids:
                continue
            owners = {port.mac_address: port.port_id for port in ports}
            for mac_address, ip_address in await self._services(network_id).neighbours():
                if mac_address in owners:
                    found.append(Neighbour(owners[mac_address], mac_address, ip_address))
        return found

    async def active_ports(self) -> Sequence[Port]:
        return [port for port in self._records.ports() if port.active]

    async def remove_everything(self) -> None:
        """All that Cirra made on this host, by its records and by the marks on interfaces; nothing else."""
        for port_id in await self.known_ports():
            await self._namespaces.on_host(partial(tap.remove_tap, port_id))
        bridged = await self._namespaces.on_host(bridge.bridged_networks)
        for network_id in self._records.network_ids() | bridged:
            await self._remove_network(network_id)
        for port in self._records.ports():
            self._records.forget(port.port_id)
        await self._firewall.delete_table()

    async def close(self) -> None:
        await asyncio.to_thread(self._namespaces.close)

    # ---- parts

    def _services(self, network_id: str) -> GuestServices:
        folder = self._records.network_folder(network_id)
        return GuestServices(self._namespaces, self._identity, network_id, folder)

    def _uplink(self, network: Network) -> str | None:
        if not network.physical_network:
            return None
        if network.physical_network not in self._uplinks:
            raise NetworkFault(
                f"this host has no interface for {network.physical_network}",
                reason="PHYSICAL_NETWORK_UNKNOWN",
                remedy=f"name its interface in CIRRA_PHYSICAL_NETWORKS ({network.physical_network}:<interface>)",
                reschedule=True,
            )
        return self._uplinks[network.physical_network]

    def _network_of(self, port: Port) -> Network:
        return self._records.network(port.network.network_id) or port.network

    def _active_by_network(self) -> Mapping[str, list[Port]]:
        networks: defaultdict[str, list[Port]] = defaultdict(list)
        for port in self._records.ports():
            if port.active:
                networks[port.network.network_id].append(port)
        return networks

    async def _plugged(self) -> dict[str, str | None]:
        return await self._namespaces.on_host(tap.plugged_ports)

    @asynccontextmanager
    async def _locked_network_of(self, port_id: str) -> AsyncIterator[str | None]:
        """The network of a port, from the records or, when they are lost, from where its tap is plugged."""
        known = self._records.port(port_id)
        network_id = known.network.network_id if known else (await self._plugged()).get(port_id)
        if network_id is None:
            yield None
            return
        async with self._locks[network_id]:
            yield network_id
