"""Between the hosts of a VXLAN network: this host's tunnel, and the ways to the guests of others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyroute2 import IPRoute

from net_agent.diagnosis.finding import Finding, broken, not_applicable, ok
from net_agent.diagnosis.path import GuestPath
from net_agent.drivers.linux.links import Link, get_link
from net_agent.drivers.linux.vxlan import vxlan_device
from net_agent.model import NetworkKind

_RECONCILE = "the net-agent puts it back within seconds: cirra service list says whether it runs, its log why not"
_NO_TUNNEL = "the network is no VXLAN network"
_IFF_UP, _IFF_LOWER_UP = 0x1, 0x1_0000
# Outer Ethernet, IP, UDP and VXLAN headers (RFC 7348), in octets.
OVERHEAD = {4: 50, 6: 70}
_MANY = 3


async def tunnel(path: GuestPath) -> Finding:
    """The device, its address on this host, and the interface that has that address."""
    if path.network.kind is not NetworkKind.VXLAN:
        return not_applicable(_NO_TUNNEL)
    device = vxlan_device(path.network.network_id)
    seen = await path.on_host(lambda: _look(device, path.network.bridge))
    if seen is None:
        return broken("TUNNEL_MISSING", f"there is no {device}", _RECONCILE)
    if not seen["up"]:
        return broken("TUNNEL_DOWN", f"{device} is down", _RECONCILE)
    if not seen["on_bridge"]:
        return broken("TUNNEL_OFF_BRIDGE", f"{device} is not on {path.network.bridge}", _RECONCILE)
    address, underlay = seen["address"], seen["underlay"]
    if not address:
        remedy = "name the host's address in CIRRA_TUNNEL_ADDRESS"
        return broken("TUNNEL_ADDRESS_UNKNOWN", f"{device} has no address to take in tunnels at", remedy)
    if underlay is None:
        remedy = f"give {address} back to its interface, or name another in CIRRA_TUNNEL_ADDRESS"
        return broken("TUNNEL_ADDRESS_MISSING", f"no interface of this host has {address}", remedy)
    if not underlay["carrier"]:
        seen_of = f"{underlay['name']}, which has {address}, is down or has no carrier"
        return broken("UNDERLAY_DOWN", seen_of, "see to the interface, its cable, and the switch's port")
    needed = path.network.mtu + OVERHEAD[6 if ":" in address else 4]
    if underlay["mtu"] < needed:
        seen_of = f"{underlay['name']} carries {underlay['mtu']} octets; tunnels of this network need {needed}"
        return broken("UNDERLAY_MTU_TOO_SMALL", seen_of, "raise the interface's MTU, or lower the network's")
    if lacks := await path.ground.lacks("segments"):
        return broken("TUNNEL_WRONG", f"{device}: {'; '.join(lacks)}", _RECONCILE)
    return ok(f"{device} is up on {path.network.bridge}, at {address} on {underlay['name']}, MTU {seen['mtu']}")


async def peers(path: GuestPath) -> Finding:
    """The kernel's forwarding entries and neighbours against the peers that this host was told of."""
    if path.network.kind is not NetworkKind.VXLAN:
        return not_applicable(_NO_TUNNEL)
    told = path.ground.wanted.peers_on(path.network.network_id)
    lacks = await path.ground.look("peers", {("network", path.network.network_id)})
    if not lacks:
        ways = (
            "way to 1 guest of another host is" if len(told) == 1 else f"ways to {len(told)} guests of other hosts are"
        )
        return ok(f"the {ways} in place" if told else "all guests are here")
    names = {peer.port_id: f"{', '.join(map(str, peer.addresses))} on {peer.host}" for peer in told}
    named = [f"{names.get(key[1], key[1])}: {text}" for key, text in sorted(lacks.items())]
    more = f" and {len(named) - _MANY} more" if len(named) > _MANY else ""
    return broken("PEERS_MISSING", f"{'; '.join(named[:_MANY])}{more}", _RECONCILE)


def _look(device: str, bridge: str) -> Mapping[str, Any] | None:
    with IPRoute() as ip:
        link, master = get_link(ip, device), get_link(ip, bridge)
        if link is None:
            return None
        address = local_address(ip, link)
        return {
            "up": link.up,
            "mtu": link.mtu,
            "on_bridge": master is not None and link.master == master.index,
            "address": address,
            "underlay": _underlay(ip, address) if address else None,
        }


def local_address(ip: IPRoute, link: Link) -> str:
    """Where a tunnel's device takes in; empty: anywhere."""
    message = next(iter(ip.get_links(link.index)))
    data = message.get(("linkinfo", "data"))
    return (data.get("vxlan_local") or data.get("vxlan_local6") or "") if data is not None else ""


def _underlay(ip: IPRoute, address: str) -> Mapping[str, Any] | None:
    """The interface that has an address."""
    indexes = {message["index"] for message in ip.get_addr(address=address)}
    for message in (found for index in indexes for found in ip.get_links(index)):
        carrier = message["flags"] & _IFF_UP and message["flags"] & _IFF_LOWER_UP
        return {"name": message.get("ifname"), "mtu": message.get("mtu"), "carrier": bool(carrier)}
    return None
