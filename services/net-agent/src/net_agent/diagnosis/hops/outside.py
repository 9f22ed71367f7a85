"""Beyond the guest's network: its gateway, and what is behind it."""

from __future__ import annotations

from ipaddress import IPv4Address

from pyroute2 import IPRoute

from net_agent.diagnosis.finding import Finding, broken, not_applicable, ok, unknown
from net_agent.diagnosis.hops.groups import kept_in
from net_agent.diagnosis.hops.routing import Way, WayOut, inside, way_of, way_out_of
from net_agent.diagnosis.hops.services import NO_VOICE
from net_agent.diagnosis.path import GuestPath
from net_agent.diagnosis.probe import frames
from net_agent.diagnosis.probe.frames import Datagram, Frame
from net_agent.drivers.linux.links import get_link
from net_agent.drivers.linux.routing.names import EXTERNAL_DEVICE

# linux/neighbour.h: REACHABLE, STALE, DELAY, PROBE, PERMANENT.
_NUD_KNOWN = 0x02 | 0x04 | 0x08 | 0x10 | 0x80


async def gateway(path: GuestPath) -> Finding:
    """ARP in the guest's name for the gateway that DHCP tells it."""
    address, way = _gateway(path), way_of(path)
    if address is None:
        return not_applicable("the guest's subnet has no gateway")
    if way is None and not path.network.physical_network:
        return not_applicable(f"the network has neither a router nor an uplink: nobody is {address}")
    if path.voice is None:
        return unknown("NO_TAP", NO_VOICE)
    mac = await path.mac_of(address)
    if mac is None:
        return _silent(path, address, way)
    if way is not None and way.interface.address.ip == address and mac != way.interface.mac_address:
        seen = f"{address} answers ARP from {mac}; the router's is {way.interface.mac_address}"
        return broken("GATEWAY_FOREIGN", seen, f"look for who else has {address} on the network: {mac}")
    return ok(f"{address} answers ARP from {mac}")


def _silent(path: GuestPath, address: IPv4Address, way: Way | None) -> Finding:
    if way is not None:
        seen = f"nobody answers ARP for {address}, though {way.namespace} shall have it"
        return broken("GATEWAY_SILENT", seen, "see what drops it: cirra network diagnose --capture")
    return broken(
        "GATEWAY_SILENT",
        f"nobody answers ARP for {address} on the provider's segment {path.network.physical_network}",
        f"see that the provider's router has {address} on that segment, and the switch's port of {path.ground.uplink}",
    )


async def next_hop(path: GuestPath) -> Finding:
    """The provider's router, by ICMP echo in the guest's name; if it answers none, by what the way out knows of it."""
    out = way_out_of(path)
    if out is None or out.next_hop is None:
        return not_applicable("there is no router of the provider's behind a router of the guest's")
    if (asked := await _tried(path, out.next_hop)) is not None:
        return asked
    target, namespace = out.next_hop, out.namespace
    state = await inside(path, namespace, lambda: neighbour_state(EXTERNAL_DEVICE, target))
    if state & _NUD_KNOWN:
        seen = f"{target} answers ARP, and no ICMP echo by way of {namespace}: it may be told not to"
        return unknown("NEXT_HOP_NO_ECHO", seen)
    return broken(
        "NEXT_HOP_SILENT",
        f"{target}, the provider's router, does not answer ARP on the external network",
        f"see that it is on that segment, and that the switch lets this host's addresses pass: {_addresses(out)}",
    )


def _addresses(out: WayOut) -> str:
    return ", ".join(str(each) for each in (*out.gateway.host_addresses, out.gateway.host_mac_address) if each)


async def outside(path: GuestPath) -> Finding:
    """ICMP echo in the guest's name, by way of the gateway."""
    target = path.targets.address
    if target is None:
        return not_applicable("no address of the outside is named to try (CIRRA_DIAGNOSE_ADDRESS)")
    if _gateway(path) is None or (way_out_of(path) is None and not path.network.physical_network):
        return not_applicable("the guest has no way out")
    if (asked := await _tried(path, target)) is not None:
        return asked
    return broken(
        "OUTSIDE_SILENT",
        f"{target} does not answer ICMP echo by way of {_gateway(path)}",
        "see the routes and filters of the routers behind the gateway, and that they know the way back",
    )


async def _tried(path: GuestPath, target: IPv4Address) -> Finding | None:
    """None: it was asked, and did not answer."""
    address = _gateway(path)
    if path.voice is None or address is None:
        return unknown("NO_TAP", NO_VOICE)
    if (mac := await path.mac_of(address)) is None:
        return unknown("NO_GATEWAY", f"{address}, the gateway, does not answer: {target} can't be tried")
    if (kept := kept_in(path, "icmp", target)) is not None:
        return kept
    if await path.once(f"echo {target}", lambda: echo(path, target, mac)):
        return ok(f"{target} answers ICMP echo, by way of {address}")
    return None


def _gateway(path: GuestPath) -> IPv4Address | None:
    return path.own[1].router if path.own else None


def neighbour_state(device: str, address: IPv4Address) -> int:
    """Of the calling thread's namespace: the NUD_* bits of who has an address there; 0: nobody is known."""
    with IPRoute() as ip:
        link = get_link(ip, device)
        if link is None:
            return 0
        found = ip.get_neighbours(family=2, ifindex=link.index)
        return next(
            (each["state"] for each in found if each.get("dst") == str(address) and each["ifindex"] == link.index), 0
        )


async def echo(path: GuestPath, target: IPv4Address, next_hop_mac: str) -> bool:
    """Whether a target answers the guest's echo."""
    assert path.voice is not None and path.own is not None
    identifier = path.number()
    packet = frames.echo_request(path.own[0], target, identifier)

    def answer(frame: Frame) -> bool | None:
        said = frame.content
        if not isinstance(said, Datagram) or (said.protocol, said.source) != (frames.ICMP, target):
            return None
        return True if (said.kind, said.identifier) == (frames.ECHO_REPLY, identifier) else None

    return bool(await path.voice.ask(f"echo to {target}", path.packet(next_hop_mac, packet), answer))
