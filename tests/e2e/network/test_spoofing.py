"""A guest that lies: what it sends in others' names, or as a server or a router, no other guest ever hears."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from core import eui64
from deployment.demo.tenant import Tenant
from net_agent.diagnosis.probe.frames import (
    ARP_REPLY,
    BROADCAST,
    ECHO_REQUEST,
    ETH_ARP,
    ETH_IPV4,
    ICMP,
    checksum,
    ethernet,
    ipv4,
    mac_octets,
    udp,
)
from tests.e2e.network import raw_frames, ways_out
from tests.e2e.network.guests import Guest, all_reach_each_other, running, vxlan
from tests.testbed.testbed import Testbed

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(600),
]

_ETH_IPV6, _ICMPV6, _UDP = 0x86DD, 58, 17
_ROUTER_ADVERTISEMENT, _NEIGHBOR_ADVERTISEMENT = 134, 136
_ALL_NODES = IPv6Address("ff02::1")
_FOREIGN_MAC, _FOREIGN_ADDRESS = "fa:16:3e:66:66:66", IPv4Address("10.90.0.66")


@dataclass(frozen=True, slots=True)
class Pair:
    """Who sends, and who is to hear it, by MAC and IPv4 address."""

    own_mac: str
    own: IPv4Address
    mac: str
    address: IPv4Address

    @property
    def link_local(self) -> IPv6Address:
        return eui64.address_of_mac(eui64.LINK_LOCAL, self.own_mac)


def _echo(source: IPv4Address, target: IPv4Address, mark: bytes) -> bytes:
    head, body = struct.pack("!BB", ECHO_REQUEST, 0), struct.pack("!HH", 7, 7) + mark
    return ipv4(source, target, ICMP, head + struct.pack("!H", checksum(head + bytes(2) + body)) + body)


def _arp(sender_mac: str, sender: IPv4Address, target_mac: str, target: IPv4Address, mark: bytes) -> bytes:
    """Of an answer that nobody asked for; what it is marked by follows the 28 octets that count (RFC 826)."""
    head = struct.pack("!HHBBH", 1, ETH_IPV4, 6, 4, ARP_REPLY)
    return head + mac_octets(sender_mac) + sender.packed + mac_octets(target_mac) + target.packed + mark


def _ipv6(source: IPv6Address, target: IPv6Address, protocol: int, payload: bytes, at: int) -> bytes:
    """*at*: where in the payload its checksum goes (RFC 8200, 8.1)."""
    pseudo = source.packed + target.packed + struct.pack("!II", len(payload), protocol)
    total = struct.pack("!H", checksum(pseudo + payload))
    whole = payload[:at] + total + payload[at + 2 :]
    return struct.pack("!IHBB", 6 << 28, len(payload), protocol, 255) + source.packed + target.packed + whole


def _router_advertisement(pair: Pair, mark: bytes) -> bytes:
    """RFC 4861, 4.2: a default router for half an hour; an option of a type that is nobody's takes the mark."""
    option = struct.pack("!BB", 253, (len(mark) + 2 + 7) // 8) + mark
    body = struct.pack("!BBHBBHII", _ROUTER_ADVERTISEMENT, 0, 0, 64, 0, 1800, 0, 0) + option + bytes(-len(option) % 8)
    return _ipv6(pair.link_local, _ALL_NODES, _ICMPV6, body, 2)


def _neighbor_advertisement(pair: Pair, mark: bytes) -> bytes:
    """RFC 4861, 4.4: for an address that isn't its own."""
    body = struct.pack("!BBHI", _NEIGHBOR_ADVERTISEMENT, 0, 0, 1 << 29) + IPv6Address("fe80::66").packed + mark
    return _ipv6(IPv6Address("fe80::66"), _ALL_NODES, _ICMPV6, body, 2)


def _dhcpv6(pair: Pair, mark: bytes) -> bytes:
    """From a server's port (RFC 8415, 7.2)."""
    head = struct.pack("!HHHH", 547, 546, 8 + len(mark), 0)
    return _ipv6(pair.link_local, _ALL_NODES, _UDP, head + mark, 6)


Make = Callable[[Pair, bytes], bytes]
LIES: dict[str, Make] = {
    "a foreign MAC address": lambda it, mark: ethernet(
        it.mac, _FOREIGN_MAC, ETH_IPV4, _echo(it.own, it.address, mark)
    ),
    "a foreign IPv4 address": lambda it, mark: ethernet(
        it.mac, it.own_mac, ETH_IPV4, _echo(_FOREIGN_ADDRESS, it.address, mark)
    ),
    "ARP for a foreign address": lambda it, mark: ethernet(
        it.mac, it.own_mac, ETH_ARP, _arp(it.own_mac, _FOREIGN_ADDRESS, it.mac, it.address, mark)
    ),
    "ARP for the gateway, to all": lambda it, mark: ethernet(
        BROADCAST, it.own_mac, ETH_ARP, _arp(it.own_mac, IPv4Address("10.90.0.1"), it.mac, it.address, mark)
    ),
    "ARP of a foreign MAC address": lambda it, mark: ethernet(
        it.mac, it.own_mac, ETH_ARP, _arp(_FOREIGN_MAC, it.own, it.mac, it.address, mark)
    ),
    "a DHCP server": lambda it, mark: ethernet(
        it.mac, it.own_mac, ETH_IPV4, udp(it.own, it.address, 67, 68, mark)
    ),
    "a router's advertisement": lambda it, mark: ethernet(
        "33:33:00:00:00:01", it.own_mac, _ETH_IPV6, _router_advertisement(it, mark)
    ),
    "a foreign neighbour's advertisement": lambda it, mark: ethernet(
        "33:33:00:00:00:01", it.own_mac, _ETH_IPV6, _neighbor_advertisement(it, mark)
    ),
    "a DHCPv6 server": lambda it, mark: ethernet(
        "33:33:00:00:00:01", it.own_mac, _ETH_IPV6, _dhcpv6(it, mark)
    ),
    "a tagged frame": lambda it, mark: ethernet(
        it.mac, it.own_mac, 0x8100, struct.pack("!HH", 5, ETH_IPV4) + _echo(it.own, it.address, mark)
    ),
}  # fmt: skip
TRUTHS: dict[str, Make] = {
    "its own echo": lambda it, mark: ethernet(it.mac, it.own_mac, ETH_IPV4, _echo(it.own, it.address, mark)),
    "its own ARP": lambda it, mark: ethernet(
        it.mac, it.own_mac, ETH_ARP, _arp(it.own_mac, it.own, it.mac, it.address, mark)
    ),
}


async def test_no_guest_hears_another_one_lie(testbed: Testbed, operated: Tenant, tmp_path: Path) -> None:
    """Neither on its host nor on another; and it hears what the same guest may say."""
    here, there, _ = testbed.hosts
    async with (
        vxlan(operated.user, "lies", "10.90.0.0/24", "2001:db8:90::/64") as (network, _subnets),
        running(testbed, operated, "lies", (here, network), (here, network), (there, network)) as guests,
    ):
        liar, *others = guests
        await all_reach_each_other(guests)
        await raw_frames.install(tmp_path, *guests)
        for listener in others:
            await raw_frames.listen(listener)
        for listener in others:
            pair = Pair(_mac(liar), IPv4Address(liar.address), _mac(listener), IPv4Address(listener.address))
            for number, make in enumerate(LIES.values()):
                await raw_frames.send(liar, make(pair, _mark("lie", number).encode()))
            # What was sent before them has come, if it comes at all.
            for number, (name, make) in enumerate(TRUTHS.items()):
                mark = _mark("truth", number)
                await raw_frames.send(liar, make(pair, mark.encode()))
                await ways_out.until(lambda mark=mark: raw_frames.heard(listener, mark), name)  # type: ignore[misc] # noqa: B023
            believed = [name for n, name in enumerate(LIES) if await raw_frames.heard(listener, _mark("lie", n))]
            assert believed == [], f"{listener.instance.display_name} hears them"


def _mac(guest: Guest) -> str:
    return guest.instance.nics[0].mac_address


def _mark(kind: str, number: int) -> str:
    return f"cirra-{kind}-{number:02}-"
