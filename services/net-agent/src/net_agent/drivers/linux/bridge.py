"""A network's bridge on this host, and the uplink that joins it to the provider's segment."""

from __future__ import annotations

import os
from ipaddress import ip_interface

from pyroute2 import IPRoute

from core.ids import bridge_device
from net_agent.drivers.base import NetworkFault
from net_agent.drivers.linux.links import (
    Link,
    addresses,
    alias,
    all_links,
    delete_link,
    disable_ipv6,
    get_link,
    have_no_ipv6_address,
    set_link,
)
from net_agent.model import Network, NetworkKind

ROLE = "network"


def ensure_bridge(network: Network) -> None:
    """The bridge is there and up: no spanning tree, no forwarding delay, the network's MTU, no address of its own.

    Raises NetworkFault when the name is taken by something else.
    """
    with IPRoute() as ip:
        bridge = get_link(ip, network.bridge) or _create(ip, network)
        if bridge.kind != "bridge" or bridge.alias not in ("", alias(ROLE, network.network_id)):
            raise NetworkFault(
                f"{network.bridge} exists and is not this network's bridge",
                reason="DEVICE_NAME_TAKEN",
                remedy=f"rename or remove the interface {network.bridge} on this host",
            )
        if not bridge.alias:
            # One of its own for good: else it takes that of a port, and forgets its neighbours with each change.
            set_link(ip, bridge, address=_random_mac_address())
        if network.kind is NetworkKind.VXLAN:
            # Neighbours that the bridge answers for can only be known to an interface that has IPv6.
            have_no_ipv6_address(network.bridge)
        else:
            disable_ipv6(network.bridge)
        set_link(ip, bridge, mtu=network.mtu, ifalias=alias(ROLE, network.network_id), state="up")


def _random_mac_address() -> str:
    """Locally administered (IEEE 802, section 8.4); nobody ever sends to it."""
    return (b"\x0a" + os.urandom(5)).hex(":")


def _create(ip: IPRoute, network: Network) -> Link:
    ip.link("add", ifname=network.bridge, kind="bridge", br_stp_state=0, br_forward_delay=0, mtu=network.mtu)
    bridge = get_link(ip, network.bridge)
    if bridge is None:
        raise NetworkFault(f"the bridge {network.bridge} vanished while it was made")
    return bridge


def enslave_uplink(network: Network, uplink: str) -> None:
    """The interface is up, and a port of the network's bridge, which exists. Raises NetworkFault."""
    with IPRoute() as ip:
        bridge = get_link(ip, network.bridge)
        if bridge is None:
            raise NetworkFault(f"the bridge {network.bridge} is gone")
        link = require_uplink(ip, network, uplink)
        if link.master not in (None, bridge.index):
            raise NetworkFault(
                f"{uplink} already is a port of another bridge",
                reason="UPLINK_TAKEN",
                remedy=f"one flat network has {network.physical_network} to itself: use another, or a VXLAN network",
                reschedule=True,
            )
        if link.master is None and any(not _kernels_own(address) for address in addresses(ip, link)):
            # As a bridge port it would lose them: this may be how the host is reached.
            raise NetworkFault(
                f"{uplink} has addresses of the host",
                reason="UPLINK_IN_USE",
                remedy=f"give {network.physical_network} an interface of its own, without addresses",
                reschedule=True,
            )
        set_link(ip, link, master=bridge.index, state="up")


def _kernels_own(address: str) -> bool:
    """Given to every interface that is up (RFC 4862, section 5.3): it tells of no use that somebody has for it."""
    interface = ip_interface(address)
    return interface.version == 6 and interface.is_link_local


def require_uplink(ip: IPRoute, network: Network, uplink: str) -> Link:
    """The interface of the network's physical network; NetworkFault when it isn't fit for this network."""
    link = get_link(ip, uplink)
    if link is None:
        raise NetworkFault(
            f"{uplink}, the interface of {network.physical_network}, does not exist",
            reason="UPLINK_MISSING",
            remedy="correct CIRRA_PHYSICAL_NETWORKS, or bring the interface back",
            reschedule=True,
        )
    if link.mtu < network.mtu:
        raise NetworkFault(
            f"{uplink} carries {link.mtu} octets, the network wants {network.mtu}",
            reason="UPLINK_MTU_TOO_SMALL",
            remedy=f"raise the interface's MTU, or lower the network's to {link.mtu}",
            reschedule=True,
        )
    return link


def bridge_ports(network_id: str) -> frozenset[str]:
    """The names of all interfaces that are on this network's bridge."""
    with IPRoute() as ip:
        links = all_links(ip)
    bridges = {link.index for link in links if link.owner(ROLE) == network_id}
    return frozenset(link.name for link in links if link.master in bridges)


def remove_bridge(network_id: str) -> None:
    """Its ports are set free; nothing is left of it. Absent is success."""
    with IPRoute() as ip:
        for link in all_links(ip):
            nameless = link.name == bridge_device(network_id) and link.kind == "bridge" and not link.alias
            if link.owner(ROLE) == network_id or nameless:
                delete_link(ip, link)


def remove_bridges() -> None:
    """Those of all networks; their ports are set free."""
    with IPRoute() as ip:
        for link in all_links(ip):
            if link.owner(ROLE) is not None:
                delete_link(ip, link)


def bridged_networks() -> frozenset[str]:
    """The ids of all networks that have a bridge here."""
    with IPRoute() as ip:
        return frozenset(owner for link in all_links(ip) if (owner := link.owner(ROLE)) is not None)
