"""DHCP, DNS and metadata for the guests of this host's networks, as a part of the driver."""

from __future__ import annotations

import asyncio
from pathlib import Path

from net_agent.drivers.base import Faults, NetworkFault
from net_agent.drivers.linux.dhcp_link import outer_device
from net_agent.drivers.linux.faults import noted
from net_agent.drivers.linux.files import make_folder
from net_agent.drivers.linux.links import Links
from net_agent.drivers.linux.namespace import Namespaces
from net_agent.drivers.linux.part import Lacks
from net_agent.drivers.linux.proxy import ProxyIdentity
from net_agent.drivers.linux.service import GuestServices
from net_agent.drivers.linux.view import HostView
from net_agent.model import Key, Model, Network
from net_agent.specs.wanted import Scope, Wanted


class Services:
    """See `Part`. They are there for networks that have ports here. folder: with one of its own for each network."""

    name = "services"

    def __init__(self, namespaces: Namespaces, identity: ProxyIdentity, folder: Path) -> None:
        self._namespaces = namespaces
        self._identity = identity
        self._folder = folder

    def of(self, network_id: str) -> GuestServices:
        return GuestServices(self._namespaces, self._identity, network_id, self._folder / network_id)

    async def ensure(self, wanted: Wanted, scope: Scope) -> Faults:
        faults: dict[Key, NetworkFault] = {}
        await asyncio.gather(*(self._ensure(wanted, network, faults) for network in scope.networks))
        return faults

    async def _ensure(self, wanted: Wanted, network: Network, faults: dict[Key, NetworkFault]) -> None:
        with noted(faults, [("network", network.network_id)], f"services of {network.network_id}"):
            ports = wanted.ports_on(network.network_id)
            if not ports:
                await self.of(network.network_id).remove()
                return
            for folder in (self._folder, self._folder / network.network_id):
                await asyncio.to_thread(make_folder, folder)
            await self.of(network.network_id).ensure(network, ports, wanted.peers_on(network.network_id))

    async def observe(self, wanted: Wanted, scope: Scope, view: HostView) -> Lacks:
        served = [network for network in scope.networks if wanted.ports_on(network.network_id)]
        links = await view.links({name for it in served for name in (it.bridge, outer_device(it.network_id))})
        looks = (self._lacking(wanted, network, links) for network in served)
        found = zip(served, await asyncio.gather(*looks), strict=True)
        return {("network", network.network_id): ", ".join(texts) for network, texts in found if texts}

    async def _lacking(self, wanted: Wanted, network: Network, links: Links) -> list[str]:
        ports, peers = wanted.ports_on(network.network_id), wanted.peers_on(network.network_id)
        services = self.of(network.network_id)
        dhcp = links.is_on(outer_device(network.network_id), network.bridge) and await services.dhcp_serves(
            network, ports, peers
        )
        metadata = await services.metadata_serves(network, ports)
        wrong = {"DHCP does not answer": dhcp, "the metadata proxy does not listen": metadata}
        return [text for text, right in wrong.items() if not right]

    async def remove(self, key: Key, last: Model | None) -> None:
        if key[0] == "network":
            await self.of(key[1]).remove()
            await asyncio.to_thread(self.of(key[1]).remove_files)

    async def clear(self) -> None:
        """Those of networks were removed with them."""
