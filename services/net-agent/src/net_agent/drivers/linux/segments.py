"""The bridges of this host's networks, and what joins each to its segment, as a part of the driver."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from net_agent.drivers.base import Faults, NetworkFault
from net_agent.drivers.linux import bridge
from net_agent.drivers.linux.faults import noted
from net_agent.drivers.linux.namespace import Namespaces
from net_agent.drivers.linux.part import Lacks
from net_agent.drivers.linux.view import HostView
from net_agent.model import Key, Model, Network
from net_agent.specs.wanted import Scope, Wanted


class Segments:
    """See `Part`. uplinks: the provider's segments and the interfaces that lead to them."""

    name = "segments"

    def __init__(self, namespaces: Namespaces, uplinks: Mapping[str, str]) -> None:
        self._namespaces = namespaces
        self._uplinks = dict(uplinks)

    @property
    def physical_networks(self) -> tuple[str, ...]:
        return tuple(sorted(self._uplinks))

    def joint(self, network: Network) -> str | None:
        """The interface that joins the network's bridge to what is beyond this host; None: nothing does.

        Raises NetworkFault when this host can't have such a network.
        """
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

    async def ensure(self, wanted: Wanted, scope: Scope) -> Faults:
        faults: dict[Key, NetworkFault] = {}
        for network in scope.networks:
            with noted(faults, [("network", network.network_id)], f"bridge {network.bridge}"):
                uplink = self.joint(network)
                await self._namespaces.on_host(partial(bridge.ensure_bridge, network, uplink))
        return faults

    async def observe(self, wanted: Wanted, scope: Scope, view: HostView) -> Lacks:
        joints = {network.network_id: self._joint_if_any(network) for network in scope.networks}
        names = {network.bridge for network in scope.networks} | {joint for joint in joints.values() if joint}
        links = await view.links(names)
        lacks = {}
        for network in scope.networks:
            stands, joint = links.get(network.bridge), joints[network.network_id]
            if stands is None or not stands.up or stands.kind != "bridge" or stands.mtu != network.mtu:
                lacks["network", network.network_id] = "the bridge is not there, or not up"
            elif joint is not None and not links.is_on(joint, network.bridge):
                lacks["network", network.network_id] = f"{joint} is not up on the bridge"
        return lacks

    def _joint_if_any(self, network: Network) -> str | None:
        try:
            return self.joint(network)
        except NetworkFault:
            return network.physical_network

    async def remove(self, key: Key, last: Model | None) -> None:
        if key[0] == "network":
            await self._namespaces.on_host(lambda: bridge.remove_bridge(key[1]))

    async def clear(self) -> None:
        for network_id in await self._namespaces.on_host(bridge.bridged_networks):
            await self._namespaces.on_host(partial(bridge.remove_bridge, network_id))
