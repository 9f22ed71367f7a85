"""Does an uplink let foreign MAC addresses pass? Guests and routers have MAC addresses of their own there.

A virtual switch may drop what doesn't bear the MAC address that it gave the machine (VMware: forged transmits), and
hand over nothing that is for another one (promiscuous mode): guests then hear nobody, and nothing on the host says why.

The gateway of the segment is asked by ARP twice: in the interface's own name, and in one that nobody has. The sender
has no IP address yet (an ARP probe, RFC 5227, section 2.1.1), so that nobody learns anything from it; who has the
address answers the asker. Where the gateway answers the interface and not the other, foreign ones don't pass.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address

from pyroute2 import IPRoute

from net_agent.diagnosis.probe import frames
from net_agent.diagnosis.probe.frames import Arp
from net_agent.diagnosis.probe.voice import FRAME_OCTETS, listening_socket
from net_agent.drivers.base import NetworkFault
from net_agent.drivers.linux.links import get_link
from net_agent.drivers.linux.namespace import Namespaces

_NOBODY = IPv4Address("0.0.0.0")
TRIES, WAIT_S = 4, 0.5


@dataclass(frozen=True, slots=True)
class OnSegment:
    """Of a network on a provider's segment: the interface that leads there, and its gateway."""

    network_id: str
    device: str
    gateway: IPv4Address


@dataclass(frozen=True, slots=True)
class Heard:
    """Whether the gateway answered the interface, and one whom nobody knows."""

    own: bool
    foreign: bool


async def ask(namespaces: Namespaces, device: str, gateway: IPv4Address) -> Heard | None:
    """None: there is no such interface, or it is down."""
    opened = await namespaces.on_host(lambda: _open(device))
    if opened is None:
        return None
    listener, own = opened
    try:
        return await _ask(listener, own, foreign_mac(own), gateway)
    finally:
        listener.close()


async def fault(namespaces: Namespaces, where: OnSegment) -> NetworkFault | None:
    """None: foreign ones pass, or it can't be told, as the gateway does not answer at all."""
    device, gateway = where.device, where.gateway
    heard = await ask(namespaces, device, gateway)
    if heard is None or heard.foreign or not heard.own:
        return None
    return NetworkFault(
        f"{device} lets no foreign MAC addresses pass: {gateway} answers ARP of the interface's own, and of no other."
        f" Guests and routers on network {where.network_id} hear nobody on that segment",
        reason="UPLINK_DROPS_FOREIGN_MACS",
        remedy="allow them at the switch's port: on VMware, accept forged transmits and promiscuous mode in the port"
        " group's security policy; elsewhere, switch off port security or MAC address filters",
    )


def foreign_mac(own: str) -> str:
    """The same each time, so that switches learn no more than one: locally administered, unicast (IEEE 802)."""
    return f"0e:{hashlib.sha256(f'foreign {own}'.encode()).digest()[:5].hex(':')}"


def _open(device: str) -> tuple[socket.socket, str] | None:
    with IPRoute() as ip:
        link = get_link(ip, device)
    if link is None or not link.up:
        return None
    try:
        return listening_socket(device), link.mac_address
    except OSError:
        # It went meanwhile.
        return None


async def _ask(listener: socket.socket, own: str, foreign: str, gateway: IPv4Address) -> Heard:
    loop, answered = asyncio.get_running_loop(), set[str]()
    both = asyncio.Event()

    def hear() -> None:
        try:
            frame = frames.parse(listener.recv(FRAME_OCTETS))
        except OSError:
            # Nothing more just now (EAGAIN), or the interface is down (ENETDOWN): nobody answers.
            return
        if frame is not None and isinstance(said := frame.content, Arp):
            if (said.operation, said.sender) == (frames.ARP_REPLY, gateway):
                answered.add(frame.destination_mac)
            if answered >= {own, foreign}:
                both.set()

    loop.add_reader(listener, hear)
    try:
        for _ in range(TRIES):
            for mac in (own, foreign):
                await _send(listener, frames.arp_request(mac, _NOBODY, gateway))
            try:
                async with asyncio.timeout(WAIT_S):
                    await both.wait()
                break
            except TimeoutError:
                continue
    finally:
        loop.remove_reader(listener)
    return Heard(own in answered, foreign in answered)


async def _send(sender: socket.socket, frame: bytes) -> None:
    try:
        await asyncio.get_running_loop().sock_sendall(sender, frame)
    except OSError:
        # The interface went down: it is another's to tell.
        return
