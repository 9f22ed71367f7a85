"""A VLAN network's way to its segment (IEEE 802.1Q): a sub-interface of the physical network's interface."""

from __future__ import annotations

import errno
import os

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from core.ids import device_suffix
from net_agent.drivers.base import NetworkFault
from net_agent.drivers.linux.bridge import require_uplink
from net_agent.drivers.linux.links import alias, all_links, delete_link, disable_ipv6, get_link, set_link
from net_agent.drivers.linux.namespace import Namespaces
from net_agent.model import Network

ROLE = "segment"


def vlan_device(network_id: str) -> str:
    return f"vln{device_suffix(network_id)}"


async def can_vlan(namespaces: Namespaces) -> bool:
    """Whether this kernel has VLANs: by making one, where it harms nobody."""
    name = f"cirra-probe-{os.getpid()}"
    await namespaces.create(name)
    try:
        return await namespaces.inside(name, _makes_vlan)
    finally:
        await namespaces.delete(name)


def _makes_vlan() -> bool:
    with IPRoute() as ip:
        ip.link("add", ifname="probe0", kind="veth", peer="probe2")
        parent = get_link(ip, "probe0")
        try:
            ip.link("add", ifname="probe1", kind="vlan", link=parent.index if parent else 0, vlan_id=1)
        except NetlinkError as error:
            if error.code == errno.EOPNOTSUPP:
                return False
            raise
        return True


def ensure_vlan(network: Network, uplink: str, *, capable: bool) -> None:
    """The sub-interface of *uplink* is up on the network's bridge, which exists. Raises NetworkFault."""
    name = vlan_device(network.network_id)
    if not capable:
        raise NetworkFault(
            "the kernel of this host has no VLANs",
            reason="VLAN_UNSUPPORTED",
            remedy="load the module 8021q on this host, or use a VXLAN network",
            reschedule=True,
        )
    with IPRoute() as ip:
        parent = require_uplink(ip, network, uplink)
        set_link(ip, parent, state="up")
        link = get_link(ip, name)
        if link is not None and link.alias not in ("", alias(ROLE, network.network_id)):
            raise NetworkFault(
                f"{name} exists and is not this network's",
                reason="DEVICE_NAME_TAKEN",
                remedy=f"rename or remove the interface {name} on this host",
            )
        if link is not None and link.settings != {"vlan_id": network.segmentation_id, "link": parent.index}:
            delete_link(ip, link)
            link = None
        if link is None:
            ip.link("add", ifname=name, kind="vlan", link=parent.index, vlan_id=network.segmentation_id)
            disable_ipv6(name)
            link = get_link(ip, name)
        bridge = get_link(ip, network.bridge)
        if link is None or bridge is None:
            raise NetworkFault(f"{name} or the bridge {network.bridge} vanished while it was made")
        role = alias(ROLE, network.network_id)
        set_link(ip, link, ifalias=role, mtu=network.mtu, master=bridge.index, state="up")


def remove_vlan(network_id: str) -> None:
    """Absent is success."""
    with IPRoute() as ip:
        for link in all_links(ip):
            nameless = link.name == vlan_device(network_id) and link.kind == "vlan" and not link.alias
            if link.owner(ROLE) == network_id or nameless:
                delete_link(ip, link)
