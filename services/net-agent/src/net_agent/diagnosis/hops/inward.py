"""From the external network to the guest: what others meet who want something of its floating IP."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, ip_network

from pyroute2 import IPRoute

from net_agent.diagnosis.finding import Finding, broken, not_applicable, ok, unknown
from net_agent.diagnosis.hops.groups import Traffic, traffic_of
from net_agent.diagnosis.hops.routing import WayOut, elements, inside, way_out_of
from net_agent.diagnosis.hops.wiring import uplink_of
from net_agent.diagnosis.nft import list_table
from net_agent.diagnosis.path import GuestPath
from net_agent.diagnosis.probe import frames
from net_agent.diagnosis.probe.frames import Arp, Datagram, Frame

_RECONCILE = "the net-agent puts it back within seconds: cirra service list says whether it runs, its log why not"
_NO_FLOATING = "the guest has no floating IP"
NO_UPLINK = "the external network's uplink here is missing or down: nothing can be asked as if from outside"
# Locally administered, and nobody's: who asks from the outside in our probes.
_ASKER_MAC = "0a:00:00:00:00:29"
# RFC 7600: an address for who has none. From 0.0.0.0, Linux answers for none but its own addresses.
_NOBODY = IPv4Address("192.0.0.8")


def _floating_way(path: GuestPath) -> tuple[WayOut, IPv4Address] | None:
    out = way_out_of(path)
    if out is None or out.floating is None or not isinstance(out.floating.floating_address, IPv4Address):
        return None
    return out, out.floating.floating_address


async def external_uplink(path: GuestPath) -> Finding:
    """Out and in lead by it alike."""
    out = way_out_of(path)
    network = path.ground.wanted.network(out.gateway.network_id) if out is not None else None
    if network is None or not network.physical_network:
        return not_applicable("there is no external network on a segment of the provider's")
    return await uplink_of(path, network)


async def floating_arp(path: GuestPath) -> Finding:
    """Who asks on the provider's segment for the floating IP is answered: ARP, as it would come in by the uplink."""
    way = _floating_way(path)
    if way is None:
        return not_applicable(_NO_FLOATING)
    address = way[1]
    if path.outside is None:
        return unknown("NO_UPLINK", NO_UPLINK)
    request = frames.arp_request(_ASKER_MAC, _NOBODY, address)

    def answer(frame: Frame) -> str | None:
        said = frame.content
        is_reply = isinstance(said, Arp) and said.operation == frames.ARP_REPLY and said.sender == address
        # Not what it tells everybody by itself.
        return frame.source_mac if is_reply and frame.destination_mac == _ASKER_MAC else None

    mac = await path.outside.ask(f"ARP for {address}", request, answer)
    if mac is None:
        seen = f"this host does not answer ARP for {address} on the external network"
        return broken("FLOATING_IP_SILENT", seen, _RECONCILE)
    return ok(f"{address} answers ARP from {mac} on the external network")


async def floating_route(path: GuestPath) -> Finding:
    """From the external network's namespace into the router's."""
    way = _floating_way(path)
    if way is None:
        return not_applicable(_NO_FLOATING)
    out, address = way
    device = await inside(path, out.namespace, lambda: _device_towards(address))
    if device is None:
        seen = f"{out.namespace} has no route of its own to {address}"
        return broken("FLOATING_ROUTE_MISSING", seen, _RECONCILE)
    return ok(f"{out.namespace} leads {address} by {device} to the router")


async def floating_dnat(path: GuestPath) -> Finding:
    """To the guest's own address."""
    way = _floating_way(path)
    if way is None:
        return not_applicable(_NO_FLOATING)
    out, address = way
    assert out.floating is not None
    fixed = str(out.floating.fixed_address)
    table = await inside(path, out.way.namespace, lambda: list_table("inet", "cirra"))
    if table is None:
        return broken("NAT_TABLE_MISSING", f"{out.way.namespace} has no table `inet cirra`", _RECONCILE)
    if [str(address), fixed] not in elements(table, "inwards"):
        seen = f"{out.way.namespace} does not lead {address} to {fixed}"
        return broken("FLOATING_IP_NOT_TRANSLATED", seen, _RECONCILE)
    return ok(f"{out.way.namespace} leads {address} to {fixed}")


async def reached(path: GuestPath) -> Finding:
    """A connection to the floating IP is begun as if from outside: does the guest say something to it?"""
    way = _floating_way(path)
    if way is None:
        return not_applicable(_NO_FLOATING)
    traffic = traffic_of(path.wish) if path.wish.to else None
    if traffic is None or traffic.protocol != frames.TCP or traffic.dport is None:
        return not_applicable("no TCP port is named to try (--to tcp/22)")
    out, address = way
    source = _source(traffic, out)
    if path.outside is None or source is None or not out.gateway.host_mac_address:
        return unknown("NO_UPLINK", NO_UPLINK)
    sport, sequence, dport = 49152 + path.draw.getrandbits(13), path.number(), traffic.dport
    packet = frames.tcp_syn(source, address, sport, dport, sequence)
    frame = frames.ethernet(out.gateway.host_mac_address, _ASKER_MAC, frames.ETH_IPV4, packet)

    def answer(heard: Frame) -> int | None:
        said = heard.content
        if not isinstance(said, Datagram) or (said.source, said.sport, said.dport) != (address, dport, sport):
            return None
        return said.flags

    flags = await path.outside.ask(f"SYN to {address}:{dport}", frame, answer)
    asked = f"a connection from {source} to {address}:{dport}"
    if flags is None:
        remedy = "see the hops before this one; else the guest drops it itself: look at its own firewall"
        return broken("NOT_REACHED", f"nothing answers {asked}", remedy)
    if flags & frames.TCP_SYN:
        return ok(f"{asked} is accepted by the guest")
    seen = f"{asked} is refused: the guest is reached, and nothing listens there"
    return broken("NOTHING_LISTENS", seen, f"start what shall listen at port {dport} in the guest")


def _source(traffic: Traffic, out: WayOut) -> IPv4Address | None:
    """Who asks: the first address of those meant, or, from anywhere, the provider's router."""
    if traffic.other_end == ip_network("0.0.0.0/0"):
        return out.next_hop
    if not isinstance(traffic.other_end, IPv4Network):
        return None
    return traffic.other_end[0] if traffic.other_end.num_addresses == 1 else traffic.other_end[1]


def entrance(path: GuestPath) -> str | None:
    """By which interface others come in who want the guest's floating IP; None: it has none, or they can't."""
    way = _floating_way(path)
    network = path.ground.wanted.network(way[0].gateway.network_id) if way is not None else None
    return path.ground.joint_of(network) or None if network is not None else None


def _device_towards(address: IPv4Address) -> str | None:
    """By a route to just this address, in the calling thread's namespace."""
    with IPRoute() as ip:
        for route in ip.route("dump", family=2):
            if (route.get("dst"), route["dst_len"]) == (str(address), 32):
                return next((link.get("ifname") for link in ip.get_links(route.get("oif"))), None)
    return None
