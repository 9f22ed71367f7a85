"""IPv6: a router announces itself on its own host, and routes without translating."""

from __future__ import annotations

import json
from ipaddress import ip_address

import pytest

from net_agent.drivers.linux.routing.bridge_plan import link_local
from tests.contract.network.waiting import until
from tests.integration.net_agent.routing.traffic import connect, serving, watching
from tests.integration.net_agent.routing.world import Guest, TestNetwork, World, run, subnet

pytestmark = pytest.mark.root


async def _configure_by_advertisements(guest: Guest) -> None:
    """As a guest does that comes up: it solicits a router (RFC 4861, 6.3.7) and makes itself an address."""
    settings = " ".join(f"echo {value} > /proc/sys/net/ipv6/conf/eth0/{name};" for name, value in _SETTINGS.items())
    await guest.run("sh", "-c", f"ip link set eth0 down; ip link set eth0 mtu 1500; {settings} ip link set eth0 up")


_SETTINGS = {"accept_ra": "2", "autoconf": "1", "router_solicitation_delay": "0", "accept_dad": "0"}


async def test_guests_make_themselves_addresses_and_find_their_router(two: World) -> None:
    first, second = two.hosts
    a = subnet(TestNetwork("a", 101), "fd00:a::1/64")
    guests = [await first.guest(a, "fd00:a::11"), await second.guest(a, "fd00:a::12")]
    router = two.router(a)
    gateway = link_local(router.interfaces[0].mac_address)
    async with watching(two.namespaces, first.path, "vx101") as tunnel:
        await two.tell([router])
        for guest in guests:
            await _configure_by_advertisements(guest)
            address = f"fd00:a::{str(link_local(guest.mac_address)).removeprefix('fe80::')}"

            async def configured(guest: Guest = guest, address: str = address) -> bool:
                [link] = json.loads(await guest.run("ip", "-j", "-6", "addr", "show", "dev", "eth0"))
                routes = json.loads(await guest.run("ip", "-j", "-6", "route", "show", "default"))
                return address in {each["local"] for each in link["addr_info"]} and [
                    each["gateway"] for each in routes
                ] == [str(gateway)]

            await until(configured)
            assert await guest.reaches("fd00:a::1")
            assert (await guest.run("cat", "/proc/sys/net/ipv6/conf/eth0/mtu")).strip() == "1450"
    # Type 134 follows the IPv6 header (RFC 4861, 4.2).
    assert not [frame for frame in tunnel.of(0x86DD) if frame[20] == 58 and frame[54] == 134]


def _options(advertisement: bytes) -> dict[int, bytes]:
    """Of a frame with a router advertisement: what follows its 16 octets (RFC 4861, 4.2, 4.6), by type."""
    rest, found = advertisement[54 + 16 :], {}
    while rest:
        length = rest[1] * 8
        found[rest[0]], rest = rest[2:length], rest[length:]
    return found


async def test_a_router_says_whom_to_ask_for_names(two: World) -> None:
    """RFC 8106: RDNSS is option 25, DNSSL is 31; lifetimes are theirs after two reserved octets."""
    host = two.hosts[0]
    a = subnet(TestNetwork("a", 101), "fd00:a::1/64")
    guest = await host.guest(a, "fd00:a::11")
    await two.tell([two.router(a)])
    async with watching(two.namespaces, guest.path, "eth0") as frames:
        await _configure_by_advertisements(guest)

        async def advertised() -> bool:
            return any(frame[20] == 58 and frame[54] == 134 for frame in frames.of(0x86DD))

        await until(advertised)
    [first, *_] = (_options(frame) for frame in frames.of(0x86DD) if frame[20] == 58 and frame[54] == 134)
    assert first[25][6:] == ip_address("fd00:a::2").packed and int.from_bytes(first[25][2:6], "big") > 60
    assert first[31][6:].rstrip(b"\0") == b"\x09novalocal"


async def test_addresses_are_seen_outside_as_they_are(two: World) -> None:
    first, second = two.hosts
    a = subnet(TestNetwork("a", 101), "2001:db8:a::1/64")
    here, there = await first.guest(a, "2001:db8:a::11"), await second.guest(a, "2001:db8:a::12")
    await two.tell([two.router(a)])
    # The provider routes the subnet to one of the hosts; each leads to all of its guests.
    await run(two.outside, "ip", "-6", "route", "add", "2001:db8:a::/64", "via", "2001:db8:ffff::11")
    async with serving(two.namespaces, two.outside.name, 80, "outside"), serving(two.namespaces, there.name, 80):
        for guest in (here, there):
            connection = await connect(two.namespaces, guest.name, "2001:db8:ffff::1", 80)
            assert await connection.ask("hello") == f"outside {guest.address} hello"
        inwards = await connect(two.namespaces, two.outside.name, there.address, 80)
        assert await inwards.ask("hello")
