"""The path that is walked: what should be there, by the host's own records, and the means to find out what is."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Any, TypeVar

from cirra.agent.v1.desired_pb2 import ObjectFault
from core.eui64 import LINK_LOCAL, address_of_mac
from core.ids import dhcp_namespace
from net_agent.diagnosis.ground import Ground
from net_agent.diagnosis.probe import frames, frames6, messages
from net_agent.diagnosis.probe.advertisement import neighbour
from net_agent.diagnosis.probe.frames import Arp, Frame
from net_agent.diagnosis.probe.messages import Offer
from net_agent.diagnosis.probe.voice import Voice
from net_agent.drivers.linux.dhcp_link import service_mac_address
from net_agent.drivers.linux.dnsmasq_config import NetworkPaths
from net_agent.model import Network, Port, Subnet

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Targets:
    """What is asked of the outside, to see whether it is there. An address of None: nothing but the next router."""

    address: IPv4Address | None = None
    name: str = "example.com"
    address6: IPv6Address | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """What others want from the guest, and where they are: `to` is "tcp/22", "icmp" or empty."""

    to: str = ""
    from_cidr: str = ""


@dataclass(slots=True)
class GuestPath:
    """One walk. What several hops want to know is asked once (`once`).

    voice: speaks as the guest; None: its tap is missing or down. outside: speaks as who is beyond the uplink of the
    external network; None: there is no such uplink, or it is down.
    """

    ground: Ground
    targets: Targets
    wish: Wish
    # As the net-agent has told them last, of all its objects.
    faults: Sequence[ObjectFault] = ()
    voice: Voice | None = None
    outside: Voice | None = None
    draw: random.Random = field(default_factory=random.SystemRandom)
    _asked: dict[str, asyncio.Task[Any]] = field(default_factory=dict)

    @property
    def port(self) -> Port:
        return self.ground.port

    @property
    def network(self) -> Network:
        return self.ground.network

    @property
    def paths(self) -> NetworkPaths:
        return NetworkPaths(self.ground.folder)

    @property
    def namespace(self) -> str:
        return dhcp_namespace(self.network.network_id)

    @property
    def own(self) -> tuple[IPv4Address, Subnet] | None:
        """The guest's first IPv4 address that is in a subnet with DHCP, or in any."""
        found = [
            (address, subnet)
            for address in self.port.addresses
            for subnet in self.network.subnets
            if isinstance(address, IPv4Address) and address in subnet.cidr
        ]
        return next((pair for pair in found if pair[1].dhcp_ip is not None), found[0] if found else None)

    @property
    def own6(self) -> tuple[IPv6Address, Subnet] | None:
        """The guest's first IPv6 address."""
        found = (
            (address, subnet)
            for address in self.port.addresses
            for subnet in self.network.subnets
            if isinstance(address, IPv6Address) and address in subnet.cidr
        )
        return next(found, None)

    @property
    def link_local(self) -> IPv6Address:
        """The guest's, by which it asks before it has another."""
        return address_of_mac(LINK_LOCAL, self.port.mac_address)

    async def on_host(self, function: Callable[[], T]) -> T:
        return await self.ground.namespaces.on_host(function)

    async def in_service(self, function: Callable[[], T]) -> T:
        """Runs where DHCP and metadata answer. Raises FileNotFoundError when that namespace is gone."""
        return await self.ground.namespaces.inside(self.namespace, function)

    async def once(self, what: str, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        task = self._asked.get(what)
        if task is None:
            task = self._asked[what] = asyncio.create_task(ask(), name=what)
        answer: T = await asyncio.shield(task)
        return answer

    async def close(self) -> None:
        """What nobody waits for any more ends."""
        for task in self._asked.values():
            task.cancel()
        await asyncio.gather(*self._asked.values(), return_exceptions=True)

    def number(self) -> int:
        """32 random bits, by which an answer is known."""
        return self.draw.getrandbits(32)

    # ---- questions that several hops ask

    async def offered(self) -> Offer | None:
        """What DHCP offers to this guest; None: nobody answers, or nothing can be asked."""
        return await self.once("dhcp", self._discover)

    async def _discover(self) -> Offer | None:
        if self.voice is None:
            return None
        transaction = self.number()
        frame = messages.discover(self.port.mac_address, transaction)
        return await self.voice.ask("DHCPDISCOVER", frame, lambda heard: messages.offer(heard, transaction))

    async def mac_of(self, address: IPv4Address) -> str | None:
        """Who answers ARP for an address when this guest asks; None: nobody, or nothing can be asked."""
        return await self.once(f"arp {address}", lambda: self._resolve(address))

    async def _resolve(self, address: IPv4Address) -> str | None:
        if self.voice is None or self.own is None:
            return None
        frame = frames.arp_request(self.port.mac_address, self.own[0], address)
        return await self.voice.ask(
            f"ARP for {address}", frame, lambda heard: _arp_reply(heard, address, self.port.mac_address)
        )

    async def mac6_of(self, address: IPv6Address, *, on_link: bool = False) -> str | None:
        """The same by neighbour discovery (RFC 4861, 7.2). on_link: asked from the guest's link-local address, so that
        what is asked from that afterwards finds its way back."""
        source = self.link_local if on_link else self.own6[0] if self.own6 is not None else None
        if self.voice is None or source is None:
            return None
        return await self.once(f"neighbour {address} {source}", lambda: self._discover_neighbour(address, source))

    async def _discover_neighbour(self, address: IPv6Address, source: IPv6Address) -> str | None:
        assert self.voice is not None
        mac = self.port.mac_address
        packet = frames6.neighbour_solicitation(source, mac, address)
        frame = self.packet6(frames6.group_mac(frames6.solicited_node(address)), packet)
        return await self.voice.ask(f"neighbour {address}", frame, lambda heard: neighbour(heard, address, mac))

    @property
    def service_mac(self) -> str:
        return service_mac_address(self.network.network_id)

    def packet(self, next_hop_mac: str, packet: bytes) -> bytes:
        """A frame of the guest's."""
        return frames.ethernet(next_hop_mac, self.port.mac_address, frames.ETH_IPV4, packet)

    def packet6(self, next_hop_mac: str, packet: bytes) -> bytes:
        """A frame of the guest's, with an IPv6 packet."""
        return frames.ethernet(next_hop_mac, self.port.mac_address, frames.ETH_IPV6, packet)


def _arp_reply(frame: Frame, address: IPv4Address, asker: str) -> str | None:
    """Who has the address, if this tells the asker so; not what somebody tells everybody."""
    match frame.content:
        case Arp(operation=frames.ARP_REPLY, sender=sender, sender_mac=mac) if sender == address:
            return mac if frame.destination_mac == asker else None
    return None
