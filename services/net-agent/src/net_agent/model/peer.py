"""A peer: a port of a network that this host has, whose guest runs on another host."""

from __future__ import annotations

from dataclasses import dataclass

from cirra.agent.v1 import fabric_pb2
from net_agent.model.checker import Checker, IpAddress


@dataclass(frozen=True, slots=True)
class Peer:
    """`tunnel_address`: where its host takes in tunnels; None: the network is none."""

    port_id: str
    network_id: str
    mac_address: str
    addresses: tuple[IpAddress, ...]
    hostname: str
    host: str
    tunnel_address: IpAddress | None


def peer_from_spec(spec: fabric_pb2.PeerSpec) -> Peer:
    """Raises InvalidArgument, naming each bad field."""
    check = Checker()
    peer = Peer(
        port_id=check.uuid("peer.port_id", spec.port_id),
        network_id=check.uuid("peer.network_id", spec.network_id),
        mac_address=check.mac_address("peer.mac_address", spec.mac_address),
        addresses=tuple(check.address("peer.ip_addresses", text) for text in spec.ip_addresses),
        hostname=check.hostname("peer.hostname", spec.hostname),
        host=spec.host,
        tunnel_address=check.address("peer.tunnel_address", spec.tunnel_address) if spec.tunnel_address else None,
    )
    check.finish()
    return peer


def peer_to_spec(peer: Peer) -> fabric_pb2.PeerSpec:
    return fabric_pb2.PeerSpec(
        port_id=peer.port_id,
        network_id=peer.network_id,
        mac_address=peer.mac_address,
        ip_addresses=[str(address) for address in peer.addresses],
        hostname=peer.hostname,
        host=peer.host,
        tunnel_address=str(peer.tunnel_address or ""),
    )
