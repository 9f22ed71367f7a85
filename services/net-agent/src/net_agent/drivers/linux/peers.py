"""Where the guests of other hosts are, as a part of the driver: forwarding entries and neighbours of VXLAN networks.

For each peer: in the network's tunnel, at which other end its MAC address is; in the network's bridge, that it is
behind the tunnel; and, for the bridge to answer in its name, whose IP address is whose (bridge(8), ip-neighbour(8)).
"""

from __future__ import annotations

from collections.abc import Iterable

from net_agent.drivers.base import Faults, NetworkFault
from net_agent.drivers.linux import rtneigh
from net_agent.drivers.linux.faults import noted
from net_agent.drivers.linux.link_table import LinkTable
from net_agent.drivers.linux.links import Links
from net_agent.drivers.linux.namespace import Namespaces
from net_agent.drivers.linux.part import Lacks
from net_agent.drivers.linux.rtneigh import Entry
from net_agent.drivers.linux.view import HostView
from net_agent.drivers.linux.vxlan import vxlan_device
from net_agent.model import Key, Model, Network, NetworkKind, Peer
from net_agent.specs.wanted import Scope, Wanted


class Peers:
    """See `Part`. A port whose guest runs here is no peer, whatever was said of it last."""

    name = "peers"

    def __init__(self, namespaces: Namespaces, table: LinkTable) -> None:
        self._table = table
        self._namespaces = namespaces
        # What was set for each peer: a change of one is made without reading those of all.
        self._set: dict[str, frozenset[Entry]] = {}

    async def ensure(self, wanted: Wanted, scope: Scope) -> Faults:
        faults: dict[Key, NetworkFault] = {}
        networks = {it.network_id: it for it in scope.networks if it.kind is NetworkKind.VXLAN}
        links = await _links(HostView(self._table, whole=False), networks.values())
        whole = networks.keys() & set(scope.of_kind("network"))
        if whole:
            await self._ensure_whole([networks[network_id] for network_id in sorted(whole)], wanted, links)
        for key in scope.keys:
            peer = wanted.get(key) if key[0] == "peer" else None
            if isinstance(peer, Peer) and peer.network_id in networks:
                with noted(faults, [key], f"peer {peer.port_id}"):
                    _require_tunnel(peer)
                if peer.network_id not in whole:
                    await self._set_entries(peer.port_id, _entries(wanted, peer, networks[peer.network_id], links))
        return faults

    async def _ensure_whole(self, networks: Iterable[Network], wanted: Wanted, links: Links) -> None:
        """All peers of these networks, and nothing else."""
        found = {
            peer.port_id: _entries(wanted, peer, network, links)
            for network in networks
            for peer in wanted.peers_on(network.network_id)
        }
        indexes = _indexes(networks, links)
        present = await self._namespaces.on_host(lambda: rtneigh.read_entries(indexes))
        needed = frozenset[Entry]().union(*found.values())
        await self._namespaces.on_host(lambda: rtneigh.change_entries(present - needed, needed - present))
        self._set |= found

    async def _set_entries(self, port_id: str, entries: frozenset[Entry]) -> None:
        before = self._set.get(port_id, frozenset())
        # Also those that were set before: they may have gone.
        await self._namespaces.on_host(lambda: rtneigh.change_entries(before - entries, entries))
        self._set[port_id] = entries

    async def observe(self, wanted: Wanted, scope: Scope, view: HostView) -> Lacks:
        # Of whole networks alone: a port of this host lacks nothing when peers do.
        whole = set(scope.of_kind("network"))
        networks = [it for it in scope.networks if it.kind is NetworkKind.VXLAN and it.network_id in whole]
        if not networks:
            return {}
        links = await _links(view, networks)
        indexes = _indexes(networks, links)
        surplus = await self._namespaces.on_host(lambda: rtneigh.read_entries(indexes))
        present = frozenset(surplus)
        lacks: dict[Key, str] = {}
        for network in networks:
            for peer in wanted.peers_on(network.network_id):
                entries = _entries(wanted, peer, network, links)
                surplus -= entries
                if not entries <= present:
                    lacks["peer", peer.port_id] = "the way to it is not known to the kernel"
                elif peer.tunnel_address is None:
                    lacks["peer", peer.port_id] = "its host takes in no tunnels"
        for network in networks:
            if any(entry.index in _indexes([network], links) for entry in surplus):
                lacks["network", network.network_id] = "there are forwarding entries of nobody"
        return lacks

    async def remove(self, key: Key, last: Model | None) -> None:
        """A network's go with its interfaces."""
        if key[0] == "peer":
            gone = self._set.pop(key[1], frozenset())
            await self._namespaces.on_host(lambda: rtneigh.change_entries(gone, ()))

    async def clear(self) -> None:
        """They went with the interfaces that they are of."""


async def _links(view: HostView, networks: Iterable[Network]) -> Links:
    return await view.links({name for it in networks for name in (it.bridge, vxlan_device(it.network_id))})


def _indexes(networks: Iterable[Network], links: Links) -> frozenset[int]:
    names = (name for it in networks for name in (it.bridge, vxlan_device(it.network_id)))
    return frozenset(link.index for name in names if (link := links.get(name)) is not None)


def _entries(wanted: Wanted, peer: Peer, network: Network, links: Links) -> frozenset[Entry]:
    """None where there is no way to it, and as long as the interfaces that they are to be of are missing."""
    bridge, tunnel = links.get(network.bridge), links.get(vxlan_device(network.network_id))
    here = wanted.ports.get(peer.port_id)
    if bridge is None or tunnel is None or peer.tunnel_address is None or (here is not None and here.active):
        return frozenset()
    return frozenset(
        [
            rtneigh.forwarding(tunnel.index, peer.mac_address, peer.tunnel_address),
            rtneigh.forwarding(tunnel.index, peer.mac_address),
            *(rtneigh.neighbour(bridge.index, address, peer.mac_address) for address in peer.addresses),
        ]
    )


def _require_tunnel(peer: Peer) -> None:
    if peer.tunnel_address is None:
        raise NetworkFault(
            f"{peer.host}, where port {peer.port_id} is, takes in no tunnels",
            reason="TUNNEL_ADDRESS_UNKNOWN",
            remedy=f"set CIRRA_TUNNEL_ADDRESS of the net-agent on {peer.host}",
        )
