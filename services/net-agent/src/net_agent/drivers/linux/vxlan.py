"""A VXLAN network's tunnel on this host (RFC 7348; Documentation/networking/vxlan.rst): a port of the network's bridge.

Nothing is learnt and nothing is flooded: where a MAC address is, and who has an IP address, follows from the peers
alone (`peers`). The bridge answers ARP and neighbour solicitations for them by itself (bridge(8), `neigh_suppress`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyroute2 import IPRoute

from core.ids import device_suffix
from net_agent.drivers.base import NetworkFault
from net_agent.drivers.linux.links import Link, alias, all_links, delete_link, disable_ipv6, get_link, set_link
from net_agent.model import IpAddress, Network

ROLE = "segment"
# RFC 7348, section 5; IANA.
UDP_PORT = 4789
# Outer Ethernet, IP, UDP and VXLAN headers, in octets.
_OVERHEAD = {4: 50, 6: 70}
_PORT_FLAGS = {
    "learning": 0,
    "unicast_flood": 0,
    "mcast_flood": 0,
    "bcast_flood": 0,
    "neigh_suppress": 1,
}


def vxlan_device(network_id: str) -> str:
    return f"vxl{device_suffix(network_id)}"


def ensure_vxlan(network: Network, local: IpAddress | None) -> None:
    """The tunnel is up on the network's bridge, which exists. local: where this host takes in tunnels; None: nowhere.

    Raises NetworkFault when the name is taken, or the underlay carries too little.
    """
    name = vxlan_device(network.network_id)
    with IPRoute() as ip:
        _require_room(ip, network, local)
        tunnel = get_link(ip, name)
        if tunnel is not None and tunnel.alias not in ("", alias(ROLE, network.network_id)):
            raise NetworkFault(
                f"{name} exists and is not this network's tunnel",
                reason="DEVICE_NAME_TAKEN",
                remedy=f"rename or remove the interface {name} on this host",
            )
        if tunnel is not None and tunnel.settings != wanted_settings(network, local):
            delete_link(ip, tunnel)
            tunnel = None
        if tunnel is None:
            ip.link("add", ifname=name, kind="vxlan", mtu=network.mtu, **_creation(network, local))
            disable_ipv6(name)
            tunnel = get_link(ip, name)
        bridge = get_link(ip, network.bridge)
        if tunnel is None or bridge is None:
            raise NetworkFault(f"{name} or the bridge {network.bridge} vanished while it was made")
        set_link(ip, tunnel, ifalias=alias(ROLE, network.network_id), mtu=network.mtu, master=bridge.index)
        # Before it is up: not a single frame is flooded.
        tunnel = get_link(ip, name)
        if tunnel is not None and not is_quiet(tunnel):
            ip.brport("set", index=tunnel.index, **{key.removeprefix(""): it for key, it in _PORT_FLAGS.items()})
        if tunnel is not None:
            set_link(ip, tunnel, state="up")


def wanted_settings(network: Network, local: IpAddress | None) -> Mapping[str, Any]:
    """As `Link.settings` shows them."""
    return {
        "vxlan_id": network.segmentation_id,
        "vxlan_port": UDP_PORT,
        "vxlan_learning": 0,
        "vxlan_local": str(local) if local is not None and local.version == 4 else None,
        "vxlan_local6": str(local) if local is not None and local.version == 6 else None,
    }


def is_quiet(tunnel: Link) -> bool:
    """It neither learns nor floods, and the bridge answers for who is behind it."""
    return all(tunnel.port_flags.get(name) == value for name, value in _PORT_FLAGS.items())


def remove_vxlan(network_id: str) -> None:
    """Absent is success."""
    with IPRoute() as ip:
        for link in all_links(ip):
            nameless = link.name == vxlan_device(network_id) and link.kind == "vxlan" and not link.alias
            if link.owner(ROLE) == network_id or nameless:
                delete_link(ip, link)


def _creation(network: Network, local: IpAddress | None) -> dict[str, Any]:
    return {name: value for name, value in wanted_settings(network, local).items() if value is not None}


def _require_room(ip: IPRoute, network: Network, local: IpAddress | None) -> None:
    """Raises NetworkFault when frames of the network's MTU don't fit into the interface that has the tunnel address."""
    if local is None:
        return
    indexes = {message["index"] for message in ip.get_addr(address=str(local))}
    needed = network.mtu + _OVERHEAD[local.version]
    for underlay in (link for index in indexes for link in ip.get_links(index)):
        name, mtu = underlay.get("ifname"), underlay.get("mtu")
        if mtu < needed:
            raise NetworkFault(
                f"{name} carries {mtu} octets, tunnels of this network need {needed}",
                reason="UNDERLAY_MTU_TOO_SMALL",
                remedy=f"raise the interface's MTU, or lower the network's to {mtu - _OVERHEAD[local.version]}",
                reschedule=True,
            )
