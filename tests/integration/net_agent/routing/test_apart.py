"""What of gateways is heard on other hosts: nothing but what they route."""

from __future__ import annotations

import json

import pytest

from net_agent.drivers.linux.routing.bridge_plan import link_local
from tests.integration.net_agent.routing.traffic import connect, serving, watching
from tests.integration.net_agent.routing.world import TestNetwork, World, subnet

pytestmark = pytest.mark.root

ARP, IPV6 = 0x0806, 0x86DD


async def test_no_arp_of_or_for_a_gateway_goes_through_a_tunnel(two: World) -> None:
    first, second = two.hosts
    a, b = subnet(TestNetwork("a", 101), "10.0.0.1/24"), subnet(TestNetwork("b", 102), "10.0.1.1/24")
    one, other = await first.guest(a, "10.0.0.11"), await second.guest(b, "10.0.1.12")
    router = two.router(a, b, way_out=False)
    await two.tell([router])
    gateways = {each.mac_address for each in router.interfaces}
    async with (
        watching(two.namespaces, first.path, "vx101") as tunnel_a,
        watching(two.namespaces, second.path, "vx102") as tunnel_b,
    ):
        assert await one.reaches(other.address) and await other.reaches(one.address)
        # Who nobody told of: the router asks, but only on its own host.
        assert not await one.pings("10.0.1.77")
        assert not await one.pings("10.0.0.78"), "the guest's own question does go there"
    assert "10.0.0.78" in tunnel_a.arp_targets()
    for tunnel in (tunnel_a, tunnel_b):
        assert not {"10.0.0.1", "10.0.1.1"} & (tunnel.arp_targets() | tunnel.arp_senders())
        assert not [frame for frame in tunnel.of(ARP) if frame[6:12].hex(":") in gateways]
    assert gateways & tunnel_b.sources(), "what it routes does"


async def test_no_discovery_of_or_for_a_gateway_goes_through_a_tunnel(two: World) -> None:
    first, second = two.hosts
    a, b = subnet(TestNetwork("a", 101), "fd00:a::1/64"), subnet(TestNetwork("b", 102), "fd00:b::1/64")
    one, other = await first.guest(a, "fd00:a::11"), await second.guest(b, "fd00:b::12")
    router = two.router(a, b, way_out=False)
    await two.tell([router])
    gateways = {each.mac_address for each in router.interfaces}
    async with (
        watching(two.namespaces, first.path, "vx101") as tunnel_a,
        watching(two.namespaces, second.path, "vx102") as tunnel_b,
    ):
        assert await one.reaches(other.address) and await other.reaches(one.address)
        assert await one.reaches(f"{link_local(router.interfaces[0].mac_address)}%eth0")
        assert not await one.pings("fd00:a::78")
        assert not await one.pings("fd00:b::77")
    ours = {each.address.ip.packed for each in router.interfaces}
    ours |= {link_local(each.mac_address).packed for each in router.interfaces}
    asked = set()
    for tunnel in (tunnel_a, tunnel_b):
        # Type 133 to 137 follow the IPv6 header; the target of 135 and 136 its first eight octets (RFC 4861, 4.3).
        discovery = [frame for frame in tunnel.of(IPV6) if frame[20] == 58 and 133 <= frame[54] <= 137]
        asked |= {frame[62:78] for frame in discovery if frame[54] == 135}
        assert not [frame for frame in discovery if frame[6:12].hex(":") in gateways]
    assert asked and not asked & ours
    assert gateways & tunnel_b.sources(), "what it routes does"


async def test_by_an_uplink_a_gateway_speaks_in_the_uplinks_name(two: World) -> None:
    first, second = two.hosts
    a, b = subnet(TestNetwork("flat", 0), "10.0.0.1/24"), subnet(TestNetwork("b", 102), "10.0.1.1/24")
    one, other = await first.guest(a, "10.0.0.11"), await second.guest(b, "10.0.1.12")
    here = await first.guest(b, "10.0.1.13")
    far = await second.guest(a, "10.0.0.14")
    router = two.router(a, b, way_out=False)
    await two.tell([router])
    gateway = router.interfaces[0].mac_address
    async with watching(two.namespaces, two.switch, "provider") as wire, serving(two.namespaces, far.name, 80):
        for guest in (here, other):
            connection = await connect(two.namespaces, guest.name, far.address, 80)
            assert await connection.ask("hello")
        assert await other.reaches(one.address)
        assert not await here.pings("10.0.0.77")
    assert gateway not in wire.sources()
    uplinks = {json.loads(await host.run("ip", "-j", "link", "show", "eth1"))[0]["address"] for host in two.hosts}
    assert uplinks & wire.sources()
    assert not {"10.0.0.1", "10.0.0.77"} & (wire.arp_targets() | wire.arp_senders())


async def test_a_bridge_does_not_learn_its_gateway_elsewhere(two: World) -> None:
    first, second = two.hosts
    a, b = subnet(TestNetwork("a", 101), "10.0.0.1/24"), subnet(TestNetwork("b", 102), "10.0.1.1/24")
    one, other = await first.guest(a, "10.0.0.11"), await second.guest(b, "10.0.1.12")
    router = two.router(a, b, way_out=False)
    await two.tell([router])
    # As on a bridge whose tunnel does learn.
    for host in two.hosts:
        for device in ("vx101", "vx102"):
            await host.run("ip", "link", "set", device, "type", "bridge_slave", "learning", "on")
    for _ in range(3):
        assert await one.reaches(other.address) and await other.reaches(one.address)
    for host in two.hosts:
        for interface in router.interfaces:
            table = await host.run("bridge", "fdb", "show", "br", interface.bridge)
            [entry] = [
                line for line in table.splitlines() if line.startswith(interface.mac_address) and "vlan" not in line
            ]
            assert " dev rp-" in entry and "sticky" in entry
