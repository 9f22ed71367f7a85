"""The ways that packets go: between subnets, out, and in by a floating IP."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from tests.contract.network.waiting import until
from tests.integration.net_agent.routing.traffic import Ended, connect, counting, serving, watching
from tests.integration.net_agent.routing.world import (
    INTERNET,
    OUTSIDE,
    TestNetwork,
    World,
    floating_ip,
    route,
    run,
    subnet,
)

pytestmark = pytest.mark.root

FLOATING, OTHER = "203.0.113.50", "203.0.113.51"


async def test_guests_of_two_subnets_on_two_hosts_talk_both_ways(two: World) -> None:
    first, second = two.hosts
    a, b = subnet(TestNetwork("a", 101), "10.0.0.1/24"), subnet(TestNetwork("b", 102), "10.0.1.1/24")
    one, other = await first.guest(a, "10.0.0.11"), await second.guest(b, "10.0.1.12")
    near = await first.guest(b, "10.0.1.13")
    router = two.router(a, b)
    await two.tell([router])
    async with serving(two.namespaces, other.name, 80), serving(two.namespaces, one.name, 80):
        there = await connect(two.namespaces, one.name, other.address, 80)
        back = await connect(two.namespaces, other.name, one.address, 80)
        assert await there.ask("hello") == f"::ffff:{one.address} hello"
        assert await back.ask("hello") == f"::ffff:{other.address} hello"
    assert await one.reaches(near.address)
    assert await one.reaches("10.0.0.1") and await one.reaches("10.0.1.1"), "the gateways answer"
    for host in two.hosts:
        count = await host.run("cat", "/proc/sys/net/netfilter/nf_conntrack_count", space=f"qrouter-{router.router_id}")
        assert int(count) == 0, "no connection is tracked between a router's own subnets"


async def test_what_a_cut_off_host_takes_along_is_only_its_own_guests(two: World) -> None:
    first, second = two.hosts
    a, b = subnet(TestNetwork("a", 101), "10.0.0.1/24"), subnet(TestNetwork("b", 102), "10.0.1.1/24")
    far = await first.guest(a, "10.0.0.11")
    one, other = await second.guest(a, "10.0.0.12"), await second.guest(b, "10.0.1.12")
    await two.tell([two.router(a, b)])
    assert await far.reaches(other.address)
    async with serving(two.namespaces, other.name, 80):
        connection = await connect(two.namespaces, one.name, other.address, 80)
        assert await connection.ask("before")
        await two.cut(first)
        assert not await far.pings(other.address)
        assert await connection.ask("after"), "their gateway is on their own host"
        assert await one.reaches(other.address) and await other.reaches(one.address)


@pytest.mark.parametrize("mebibytes", [16, pytest.param(1024, marks=pytest.mark.slow)])
async def test_much_goes_both_ways_between_hosts(two: World, mebibytes: int) -> None:
    first, second = two.hosts
    a, b = subnet(TestNetwork("a", 101), "10.0.0.1/24"), subnet(TestNetwork("b", 102), "10.0.1.1/24")
    one, other = await first.guest(a, "10.0.0.11"), await second.guest(b, "10.0.1.12")
    await two.tell([two.router(a, b, way_out=False)])
    for source, target in ((one, other), (other, one)):
        async with counting(two.namespaces, target.name, 9000) as counts:
            connection = await connect(two.namespaces, source.name, target.address, 9000)
            for _ in range(mebibytes):
                connection.writer.write(bytes(1 << 20))
                await connection.writer.drain()
            connection.writer.write_eof()
            assert await connection.reader.read() == b""
        assert counts == [mebibytes << 20]


async def test_the_way_out_is_the_hosts_address(one: World) -> None:
    [host] = one.hosts
    guest = await host.guest(subnet(TestNetwork("a", 101), "10.0.0.1/24"), "10.0.0.11")
    await one.tell([one.router(guest.subnet)])
    async with serving(one.namespaces, one.outside.name, 80, "outside"):
        connection = await connect(one.namespaces, guest.name, INTERNET, 80)
        assert await connection.ask("hello") == f"outside ::ffff:{host.outside_address.ip} hello"
    assert await guest.reaches(OUTSIDE)


async def test_two_tenants_with_the_same_addresses_both_get_out(one: World) -> None:
    [host] = one.hosts
    subnets = [subnet(TestNetwork(name, vni), "10.0.0.1/24") for name, vni in (("a", 101), ("b", 102))]
    guests = [await host.guest(each, "10.0.0.11") for each in subnets]
    routers = [one.router(each) for each in subnets]
    await one.tell(routers, [floating_ip(guests[1], FLOATING, routers[1])])
    async with serving(one.namespaces, one.outside.name, 80, "outside"):
        mine = await connect(one.namespaces, guests[0].name, INTERNET, 80, source_port=40_000)
        theirs = await connect(one.namespaces, guests[1].name, INTERNET, 80, source_port=40_000)
        assert await mine.ask("mine") == f"outside ::ffff:{host.outside_address.ip} mine"
        assert await theirs.ask("theirs") == f"outside ::ffff:{FLOATING} theirs"
    await one.tell(routers)
    async with serving(one.namespaces, one.outside.name, 80, "outside"):
        mine, theirs = [await connect(one.namespaces, guest.name, INTERNET, 80, source_port=40_001) for guest in guests]
        for _ in range(3):
            assert (await mine.ask("mine")).endswith(f"{host.outside_address.ip} mine")
            assert (await theirs.ask("theirs")).endswith(f"{host.outside_address.ip} theirs")


async def test_a_floating_ip_leads_in_and_out(one: World) -> None:
    [host] = one.hosts
    guest = await host.guest(subnet(TestNetwork("a", 101), "10.0.0.1/24"), "10.0.0.11")
    router = one.router(guest.subnet)
    await one.tell([router], [floating_ip(guest, FLOATING, router)])
    async with serving(one.namespaces, guest.name, 22, "guest"):
        inwards = await connect(one.namespaces, one.outside.name, FLOATING, 22)
        assert await inwards.ask("hello") == f"guest ::ffff:{OUTSIDE} hello"
    async with serving(one.namespaces, one.outside.name, 80, "outside"):
        outwards = await connect(one.namespaces, guest.name, INTERNET, 80)
        assert await outwards.ask("hello") == f"outside ::ffff:{FLOATING} hello"


async def test_outside_sees_the_hosts_and_floating_addresses_only(one: World) -> None:
    [host] = one.hosts
    a = subnet(TestNetwork("a", 101), "10.0.0.1/24")
    guest, other = await host.guest(a, "10.0.0.11"), await host.guest(a, "10.0.0.12")
    router = one.router(a)
    floating = floating_ip(guest, FLOATING, router)
    async with watching(one.namespaces, one.outside, "eth0") as frames:
        await one.tell([router], [floating])
        async with serving(one.namespaces, one.outside.name, 80):
            connections = [await connect(one.namespaces, each.name, INTERNET, 80) for each in (guest, other)]
            # In the middle of these, the floating IP goes: what they still send has no connection to be of.
            await one.tell([router])
            for connection in connections:
                try:
                    await connection.ask("hello", timeout_s=1)
                except Ended:
                    continue
        assert not await guest.pings("169.254.1.0"), "links are nobody's"
    visible = {str(host.outside_address.ip), FLOATING}
    assert frames.ip_sources() - {INTERNET, OUTSIDE} == visible
    assert frames.arp_senders() - {INTERNET, OUTSIDE} == visible


async def test_without_snat_only_what_the_provider_routes_goes_out(one: World) -> None:
    [host] = one.hosts
    a = subnet(TestNetwork("a", 101), "10.0.0.1/24")
    guest, other = await host.guest(a, "10.0.0.11"), await host.guest(a, "10.0.0.12")
    router = one.router(a, snat=False)
    await one.tell([router], [floating_ip(other, FLOATING, router)])
    assert not await guest.pings(OUTSIDE), "nobody knows the way back"
    assert await other.reaches(OUTSIDE)
    await run(one.outside, "ip", "route", "add", "10.0.0.0/24", "via", str(host.outside_address.ip))
    async with serving(one.namespaces, one.outside.name, 80, "outside"):
        connection = await connect(one.namespaces, guest.name, INTERNET, 80)
        assert await connection.ask("hello") == f"outside ::ffff:{guest.address} hello"


async def test_neighbours_meet_at_their_floating_ips(one: World) -> None:
    """Hairpin: with a floating IP of one's own, without, and at one's own."""
    [host] = one.hosts
    a, b = subnet(TestNetwork("a", 101), "10.0.0.1/24"), subnet(TestNetwork("b", 102), "10.0.1.1/24")
    guest, other, third = [
        await host.guest(each, address) for each, address in ((a, "10.0.0.11"), (a, "10.0.0.12"), (b, "10.0.1.13"))
    ]
    router = one.router(a, b)
    await one.tell([router], [floating_ip(guest, FLOATING, router), floating_ip(other, OTHER, router)])
    async with serving(one.namespaces, guest.name, 80, "guest"), serving(one.namespaces, other.name, 80, "other"):
        for who, seen in ((guest, FLOATING), (other, OTHER), (third, str(host.outside_address.ip))):
            for address, says in ((FLOATING, "guest"), (OTHER, "other")):
                connection = await connect(one.namespaces, who.name, address, 80)
                assert await connection.ask("hello") == f"{says} ::ffff:{seen} hello"


async def test_tenants_meet_at_floating_ips_on_one_host(one: World) -> None:
    [host] = one.hosts
    subnets = [subnet(TestNetwork(name, vni), "10.0.0.1/24") for name, vni in (("a", 101), ("b", 102))]
    mine, theirs = [await host.guest(each, "10.0.0.11") for each in subnets]
    routers = [one.router(each) for each in subnets]
    await one.tell(routers, [floating_ip(theirs, FLOATING, routers[1])])
    async with serving(one.namespaces, theirs.name, 80, "theirs"):
        connection = await connect(one.namespaces, mine.name, FLOATING, 80)
        assert await connection.ask("hello") == f"theirs ::ffff:{host.outside_address.ip} hello"
    await one.tell(routers, [floating_ip(theirs, FLOATING, routers[1]), floating_ip(mine, OTHER, routers[0])])
    async with serving(one.namespaces, theirs.name, 80, "theirs"):
        connection = await connect(one.namespaces, mine.name, FLOATING, 80)
        assert await connection.ask("hello") == f"theirs ::ffff:{OTHER} hello"


@pytest.mark.parametrize("what", ["moved", "released"])
async def test_connections_to_the_old_target_end(one: World, what: str) -> None:
    [host] = one.hosts
    a = subnet(TestNetwork("a", 101), "10.0.0.1/24")
    guest, other = await host.guest(a, "10.0.0.11"), await host.guest(a, "10.0.0.12")
    router = one.router(a)
    floating, beside = floating_ip(guest, FLOATING, router), floating_ip(other, OTHER, router)
    await one.tell([router], [floating, beside])
    async with (
        serving(one.namespaces, guest.name, 22, "old"),
        serving(one.namespaces, other.name, 22, "new"),
        serving(one.namespaces, one.outside.name, 80),
    ):
        inwards = await connect(one.namespaces, one.outside.name, FLOATING, 22)
        unconcerned = await connect(one.namespaces, one.outside.name, OTHER, 22)
        outwards = await connect(one.namespaces, guest.name, INTERNET, 80)
        for connection in (inwards, unconcerned, outwards):
            assert await connection.ask("before")
        if what == "moved":
            moved = replace(floating, port_id=other.port_id, fixed_address=other.address)
            await one.tell([router], [moved, beside])
        else:
            await one.tell([router], [beside])
        for connection in (inwards, outwards):
            with pytest.raises(Ended):
                await connection.ask("after", timeout_s=2)
        assert await unconcerned.ask("after"), "others' go on"
        if what == "moved":
            anew = await connect(one.namespaces, one.outside.name, FLOATING, 22)
            assert (await anew.ask("hello")).startswith("new ")
        else:
            with pytest.raises((TimeoutError, OSError)):
                await connect(one.namespaces, one.outside.name, FLOATING, 22, timeout_s=2)


async def test_a_floating_ip_that_moves_between_hosts_is_announced(two: World) -> None:
    first, second = two.hosts
    a = subnet(TestNetwork("a", 101), "10.0.0.1/24")
    guest, other = await first.guest(a, "10.0.0.11"), await second.guest(a, "10.0.0.12")
    router = two.router(a)
    floating = floating_ip(guest, FLOATING, router)
    await two.tell([router], [floating])
    async with serving(two.namespaces, guest.name, 22, "old"), serving(two.namespaces, other.name, 22, "new"):
        before = await connect(two.namespaces, two.outside.name, FLOATING, 22)
        assert (await before.ask("hello")).startswith("old ")
        async with watching(two.namespaces, two.outside, "eth0") as frames:
            await two.tell([router], [replace(floating, port_id=other.port_id, fixed_address=other.address)])
            after = await connect(two.namespaces, two.outside.name, FLOATING, 22)
            assert (await after.ask("hello")).startswith("new ")

            async def told_several_times() -> bool:
                said = [frame for frame in frames.of(0x0806) if frame[6:12].hex(":") == second.outside_mac]
                return sum(frame[28:32] == frame[38:42] == IPv4Address(FLOATING).packed for frame in said) >= 4

            await until(told_several_times)
        with pytest.raises(Ended):
            await before.ask("after", timeout_s=2)


async def test_static_routes_lead_by_guests(two: World) -> None:
    first, second = two.hosts
    a, b = subnet(TestNetwork("a", 101), "10.0.0.1/24"), subnet(TestNetwork("b", 102), "10.0.1.1/24")
    one, gate = await first.guest(a, "10.0.0.11"), await second.guest(b, "10.0.1.12")
    await gate.run("ip", "addr", "add", "192.168.9.1/24", "dev", "lo")
    await two.tell([two.router(a, b, routes=(route("192.168.9.0/24", str(gate.address)),))])
    assert await one.reaches("192.168.9.1")


async def test_metadata_is_reached_by_way_of_the_gateway(one: World) -> None:
    """By a guest that takes no routes from DHCP; each subnet has its own."""
    [host] = one.hosts
    subnets = [
        subnet(TestNetwork("a", 101), "10.0.0.1/24"),
        subnet(TestNetwork("b", 102), "10.0.1.1/24"),
    ]
    guests = [await host.guest(subnets[0], "10.0.0.11"), await host.guest(subnets[1], "10.0.1.11")]
    services = [await host.guest(subnets[0], "10.0.0.2"), await host.guest(subnets[1], "10.0.1.2")]
    router = one.router(*subnets)
    metadata = {each.subnet_id: service.address for each, service in zip(subnets, services, strict=True)}
    floating = [floating_ip(guests[0], FLOATING, router)]
    await one.tell([router], floating, metadata)  # type: ignore[arg-type]
    for service in services:
        await service.run("ip", "addr", "add", "169.254.169.254/32", "dev", "lo")
    async with (
        serving(one.namespaces, services[0].name, 80, "metadata of a"),
        serving(one.namespaces, services[1].name, 80, "metadata of b"),
    ):
        for guest, says in zip(guests, "ab", strict=True):
            connection = await connect(one.namespaces, guest.name, "169.254.169.254", 80)
            assert await connection.ask("hello") == f"metadata of {says} ::ffff:{guest.address} hello"


async def test_a_sender_outside_is_told_the_size_of_packets(one: World) -> None:
    """1500 octets outside, 1450 inside: without the router's word of it, large packets would vanish (RFC 1191)."""
    [host] = one.hosts
    guest = await host.guest(subnet(TestNetwork("a", 101), "10.0.0.1/24"), "10.0.0.11")
    router = one.router(guest.subnet)
    await one.tell([router], [floating_ip(guest, FLOATING, router)])

    def make() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER, IP_PMTUDISC_DO: ip(7)
        made.connect((FLOATING, 9))
        return made

    with await one.namespaces.inside(one.outside.name, make) as sender:

        async def told() -> bool:
            # EMSGSIZE, or the guest's word that nobody listens: what is asked for is the size.
            with contextlib.suppress(OSError):
                sender.send(bytes(1472))
            await asyncio.sleep(0.05)
            return sender.getsockopt(socket.IPPROTO_IP, 14) == 1450  # IP_MTU

        await until(told)


async def test_one_guest_does_not_have_all_connections_to_itself(one: World) -> None:
    [host] = one.hosts
    subnets = [subnet(TestNetwork(name, vni), f"10.0.{vni}.1/24") for name, vni in (("a", 101), ("b", 102))]
    greedy, other = await host.guest(subnets[0], "10.0.101.11"), await host.guest(subnets[1], "10.0.102.11")
    router = one.router(*subnets)
    await one.tell([router])
    host.desired = replace(host.desired, guest_connections=200)
    await host.ensure()

    def ask_everywhere() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for number in range(1_000):
                with contextlib.suppress(OSError):
                    sender.sendto(b"", (f"198.51.{number >> 8}.{number & 0xFF}", 9))

    await one.namespaces.inside(greedy.name, ask_everywhere)
    space = f"qrouter-{router.router_id}"
    tracked = int(await host.run("cat", "/proc/sys/net/netfilter/nf_conntrack_count", space=space))
    # What is counted is looked at now and then: some more get by.
    assert 200 <= tracked < 500
    assert not await greedy.pings(INTERNET)
    assert await other.reaches(INTERNET)
    await host.ensure()


async def test_floating_ips_need_no_address_of_the_host(one: World) -> None:
    [host] = one.hosts
    guest = await host.guest(subnet(TestNetwork("a", 101), "10.0.0.1/24"), "10.0.0.11")
    router = one.router(guest.subnet, snat=False)
    floating = [floating_ip(guest, FLOATING, router)]
    async with watching(one.namespaces, one.outside, "eth0") as frames:
        await one.tell([router], floating, host_addresses=False)
        async with serving(one.namespaces, one.outside.name, 80, "outside"), serving(one.namespaces, guest.name, 22):
            outwards = await connect(one.namespaces, guest.name, INTERNET, 80)
            assert await outwards.ask("hello") == f"outside ::ffff:{FLOATING} hello"
            inwards = await connect(one.namespaces, one.outside.name, FLOATING, 22)
            assert await inwards.ask("hello")
    # ARP without an address of one's own is a probe (RFC 5227).
    assert frames.arp_senders() - {INTERNET, OUTSIDE} <= {FLOATING, "0.0.0.0"}
    assert frames.ip_sources() - {INTERNET, OUTSIDE} == {FLOATING}
