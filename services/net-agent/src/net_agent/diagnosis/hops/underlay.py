"""The hosts at the other ends of the tunnels that a guest's packets take."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from ipaddress import ip_address

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from net_agent.diagnosis.finding import Finding, broken, not_applicable, ok, unknown
from net_agent.diagnosis.hops.routing import way_of
from net_agent.diagnosis.hops.tunnel import OVERHEAD, local_address
from net_agent.diagnosis.path import GuestPath
from net_agent.diagnosis.probe.ping import reached
from net_agent.drivers.linux.links import get_link
from net_agent.drivers.linux.vxlan import vxlan_device
from net_agent.model import IpAddress, Network, NetworkKind

_ECHO_OCTETS = 84
_PATIENCE_S = 1.5
_MANY = 3
# linux/neighbour.h
_NUD_INCOMPLETE, _NUD_FAILED = 0x01, 0x20


async def underlay(path: GuestPath) -> Finding:
    """Echo to each host that has guests this one may want to reach: of its network, and of its router's others.

    Small, and as large as tunnels carry. Who does not answer, and isn't known to the link either, is not there.
    """
    ends = _ends(path)
    if ends is None:
        return not_applicable("no network of the path goes between hosts")
    if not ends:
        return ok("no guest that this one may want to reach is on another host")
    source = await path.on_host(lambda: _tunnel_address(networks(path)))
    if source is None:
        return unknown("TUNNEL_MISSING", "this host has no tunnel to ask from")
    targets = [address for address in ends if address.version == source.version]
    namespaces = path.ground.namespaces
    answered = await reached(namespaces, source, targets, _ECHO_OCTETS, _PATIENCE_S)
    octets = max(each.mtu for each in networks(path)) + OVERHEAD[source.version]
    whole = await reached(namespaces, source, answered, octets, _PATIENCE_S)
    silent = [address for address in targets if address not in answered]
    gone = await path.on_host(lambda: [each for each in silent if _is_nobody(each)])
    if gone:
        return broken(
            "PEER_HOST_SILENT",
            f"{_named(gone, ends)}: nobody answers at its address of tunnels, asked from {source}",
            "see whether the host is up (cirra host list), and the wires and switches between the two",
            others=_guests(path, gone),
        )
    if short := [address for address in targets if address in answered and address not in whole]:
        return broken(
            "UNDERLAY_MTU_TOO_SMALL",
            f"{_named(short, ends)}: answers, but not when {octets} octets are asked, as tunnels of this network need",
            "raise the MTU of what is between the hosts, or lower the network's: cirra network set --mtu",
            others=_guests(path, short),
        )
    if silent:
        seen = f"{_named(silent, ends)}: no answer to ICMP echo; it may be filtered"
        return unknown("PEER_HOST_NO_ECHO", seen, others=_guests(path, silent))
    return ok(f"{_named(targets, ends)} answers at its address of tunnels, to {octets} octets too")


def networks(path: GuestPath) -> list[Network]:
    """The VXLAN networks on the guest's path: its own, and those that its router leads to."""
    way, wanted = way_of(path), path.ground.wanted
    routed = {interface.network_id for interface in way.router.interfaces} if way is not None else set()
    others = (wanted.network(network_id) for network_id in sorted(routed - {path.network.network_id}))
    found = (path.network, *(network for network in others if network is not None))
    return [network for network in found if network.kind is NetworkKind.VXLAN]


def _ends(path: GuestPath) -> Mapping[IpAddress, str] | None:
    """Where hosts take in tunnels → their names; None: no network has tunnels."""
    found = networks(path)
    if not found:
        return None
    peers = (peer for network in found for peer in path.ground.wanted.peers_on(network.network_id))
    return {peer.tunnel_address: peer.host for peer in peers if peer.tunnel_address is not None}


def _guests(path: GuestPath, addresses: Collection[IpAddress]) -> tuple[str, ...]:
    """A guest's port of each of these hosts, of the first few."""
    found: dict[IpAddress, str] = {}
    for network in networks(path):
        for peer in path.ground.wanted.peers_on(network.network_id):
            if (address := peer.tunnel_address) is not None and address in addresses:
                found.setdefault(address, peer.port_id)
    return tuple(found[address] for address in sorted(found, key=str)[:_MANY])


def _named(addresses: Collection[IpAddress], ends: Mapping[IpAddress, str]) -> str:
    listed = sorted(f"{ends[address]} ({address})" for address in addresses)
    more = f" and {len(listed) - _MANY} more" if len(listed) > _MANY else ""
    return ", ".join(listed[:_MANY]) + more


# ---- what the kernel has


def _tunnel_address(found: Iterable[Network]) -> IpAddress | None:
    """Of the first tunnel that is there; all have the host's."""
    with IPRoute() as ip:
        for network in found:
            link = get_link(ip, vxlan_device(network.network_id))
            if link is not None and (address := local_address(ip, link)):
                return ip_address(address)
    return None


def _is_nobody(address: IpAddress) -> bool:
    """Asked just now, nobody on the link has it; or there is no way to it at all."""
    with IPRoute() as ip:
        try:
            ip.route("get", dst=str(address), family=2 if address.version == 4 else 10)
        except NetlinkError:
            return True
        found = ip.get_neighbours(family=2 if address.version == 4 else 10, dst=str(address))
        states = [each["state"] for each in found if each.get("dst") == str(address)]
        return bool(states) and all(state & (_NUD_INCOMPLETE | _NUD_FAILED) for state in states)
