"""The bridges of this host's networks, and what joins each to its segment, as a part of the driver."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from net_agent.drivers.base import Faults, NetworkFault
from net_agent.drivers.linux import bridge, vlan, vxlan
from net_agent.drivers.linux.faults import noted
from net_agent.drivers.linux.links import Link, Links
from net_agent.drivers.linux.namespace import Namespaces
from net_agent.drivers.linux.part import Lacks
from net_agent.drivers.linux.uplink_probe import OnSegment
from net_agent.drivers.linux.view import HostView
from net_agent.model import IpAddress, Key, Model, Network, NetworkKind
from net_agent.specs.wanted import Scope, Wanted


class Segments:
    """See `Part`. uplinks: the provider's segments and the interfaces that lead to them.

    tunnel_address: where this host takes in tunnels; None: nowhere, and VXLAN networks end here.
    """

    name = "segments"

    def __init__(self, namespaces: Namespaces, uplinks: Mapping[str, str], tunnel_address: IpAddress | None) -> None:
        self._namespaces = namespaces
        self._uplinks = dict(uplinks)
        self._tunnel_address = tunnel_address
        self._can_vlan: bool | None = None

    @property
    def physical_networks(self) -> tuple[str, ...]:
        return tuple(sorted(self._uplinks))

    async def can_vlan(self) -> bool:
        """Whether the host's kernel has VLANs; it is asked once."""
        if self._can_vlan is None:
            self._can_vlan = await vlan.can_vlan(self._namespaces)
        return self._can_vlan

    def joint(self, network: Network) -> str | None:
        """The interface that joins the network's bridge to what is beyond this host; None: nothing does.

        Raises NetworkFault when this host has no way to the network's segment.
        """
        if network.kind is NetworkKind.VXLAN:
            return vxlan.vxlan_device(network.network_id)
        if not network.physical_network:
            return None
        uplink = self._uplink(network)
        return vlan.vlan_device(network.network_id) if network.kind is NetworkKind.VLAN else uplink

    def _uplink(self, network: Network) -> str:
        if network.physical_network not in self._uplinks:
            raise NetworkFault(
                f"this host has no interface for {network.physical_network}",
                reason="PHYSICAL_NETWORK_UNKNOWN",
                remedy=f"name its interface in CIRRA_PHYSICAL_NETWORKS ({network.physical_network}:<interface>)",
                reschedule=True,
            )
        return self._uplinks[network.physical_network]

    def uplink_of(self, network: Network) -> str | None:
        """The interface of the network's physical network; None: it has none, or this host has no interface for it."""
        return self._uplinks.get(network.physical_network)

    def gateways(self, networks: Iterable[Network]) -> Iterator[OnSegment]:
        """Of the networks that have one on a provider's segment."""
        for network in networks:
            device = None if network.physical_network not in self._uplinks else self.joint(network)
            gateway = next((subnet.router for subnet in network.subnets if subnet.router is not None), None)
            if device is not None and gateway is not None:
                yield OnSegment(network.network_id, device, gateway)

    async def ensure(self, wanted: Wanted, scope: Scope) -> Faults:
        faults: dict[Key, NetworkFault] = {}
        for network in scope.networks:
            with noted(faults, [("network", network.network_id)], f"bridge {network.bridge}"):
                join = await self._joining(network)
                await self._namespaces.on_host(partial(bridge.ensure_bridge, network))
                await self._namespaces.on_host(join)
        return faults

    async def _joining(self, network: Network) -> Callable[[], None]:
        if network.kind is NetworkKind.VXLAN:
            return partial(vxlan.ensure_vxlan, network, self._tunnel_address)
        if not network.physical_network:
            return lambda: None
        uplink = self._uplink(network)
        if network.kind is NetworkKind.VLAN:
            return partial(vlan.ensure_vlan, network, uplink, capable=await self.can_vlan())
        return partial(bridge.enslave_uplink, network, uplink)

    async def observe(self, wanted: Wanted, scope: Scope, view: HostView) -> Lacks:
        joints = {network.network_id: self._joint_or_reason(network) for network in scope.networks}
        names = {network.bridge for network in scope.networks} | {joint for joint in joints.values() if joint}
        links = await view.links(names)
        found = ((network, self._lacking(network, joints[network.network_id], links)) for network in scope.networks)
        return {("network", network.network_id): text for network, text in found if text is not None}

    def _lacking(self, network: Network, joint: str | None, links: Links) -> str | None:
        stands = links.get(network.bridge)
        if stands is None or not stands.up or stands.kind != "bridge" or stands.mtu != network.mtu:
            return "the bridge is not there, or not up"
        if joint is None:
            return None
        link = links.get(joint)
        if link is None or not links.is_on(joint, network.bridge):
            return f"{joint} is not up on the bridge"
        return None if self._is_right(network, link) else f"{joint} is not as it was made"

    def _is_right(self, network: Network, joint: Link) -> bool:
        match network.kind:
            case NetworkKind.VXLAN:
                settings = vxlan.wanted_settings(network, self._tunnel_address)
                return joint.mtu == network.mtu and joint.settings == settings and vxlan.is_quiet(joint)
            case NetworkKind.VLAN:
                return joint.mtu == network.mtu and joint.settings.get("vlan_id") == network.segmentation_id
        return True

    def _joint_or_reason(self, network: Network) -> str | None:
        """What will not be found is the name of the physical network that this host lacks."""
        try:
            return self.joint(network)
        except NetworkFault:
            return network.physical_network

    async def remove(self, key: Key, last: Model | None) -> None:
        if key[0] == "network":
            for remove in (vxlan.remove_vxlan, vlan.remove_vlan, bridge.remove_bridge):
                await self._namespaces.on_host(partial(remove, key[1]))

    async def clear(self) -> None:
        await self._namespaces.on_host(bridge.remove_bridges)
