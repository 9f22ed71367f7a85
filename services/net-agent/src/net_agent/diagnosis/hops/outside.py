"""Beyond the guest's network: its gateway, and what is behind it."""

from __future__ import annotations

from ipaddress import IPv4Address

from net_agent.diagnosis.finding import Finding, broken, not_applicable, ok, unknown
from net_agent.diagnosis.hops.services import NO_VOICE
from net_agent.diagnosis.path import GuestPath
from net_agent.diagnosis.probe import frames
from net_agent.diagnosis.probe.frames import Datagram, Frame


def _gateway(path: GuestPath) -> IPv4Address | None:
    return path.own[1].gateway_ip if path.own else None


async def gateway(path: GuestPath) -> Finding:
    """ARP in the guest's name for the gateway that DHCP tells it."""
    address = _gateway(path)
    if address is None:
        return not_applicable("the guest's subnet has no gateway")
    if not path.network.physical_network:
        return not_applicable(f"the network has neither a router nor an uplink: nobody is {address}")
    if path.voice is None:
        return unknown("NO_TAP", NO_VOICE)
    if (mac := await path.mac_of(address)) is not None:
        return ok(f"{address} answers ARP from {mac}")
    return broken(
        "GATEWAY_SILENT",
        f"nobody answers ARP for {address} on the provider's segment {path.network.physical_network}",
        f"see that the provider's router has {address} on that segment, and the switch's port of {path.ground.uplink}",
    )


async def outside(path: GuestPath) -> Finding:
    """ICMP echo in the guest's name, by way of the gateway."""
    address, target = _gateway(path), path.targets.address
    if target is None:
        return not_applicable("no address of the outside is named to try (CIRRA_DIAGNOSE_ADDRESS)")
    if address is None or not path.network.physical_network:
        return not_applicable("the guest has no gateway")
    if path.voice is None or path.own is None:
        return unknown("NO_TAP", NO_VOICE)
    if (mac := await path.mac_of(address)) is None:
        return unknown("NO_GATEWAY", f"{address}, the gateway, does not answer: {target} can't be tried")
    if await path.once("outside", lambda: echo(path, target, mac)):
        return ok(f"{target} answers ICMP echo, by way of {address}")
    return broken(
        "OUTSIDE_SILENT",
        f"{target} does not answer ICMP echo by way of {address}",
        "see the routes and filters of the routers behind the gateway, and that they know the way back",
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

    return bool(await path.voice.ask(path.packet(next_hop_mac, packet), answer))
