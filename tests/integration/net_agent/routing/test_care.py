"""Routers as an operator finds them: untouched when right, whole again when broken, gone without a trace."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from net_agent.drivers.linux.process import command_line
from net_agent.drivers.linux.routing.desired import Routing
from net_agent.model import Router
from tests.contract.network.waiting import until
from tests.e2e.machine import links_of
from tests.integration.net_agent.routing.traffic import connect, serving
from tests.integration.net_agent.routing.world import (
    INTERNET,
    OUTSIDE,
    Guest,
    Host,
    TestNetwork,
    World,
    floating_ip,
    named,
    subnet,
)

pytestmark = pytest.mark.root

FLOATING = "203.0.113.50"


async def _with_a_router(world: World) -> tuple[Host, Router, Guest, Guest]:
    """Of IPv4 and IPv6, with a way out, and two guests: the first with a floating IP."""
    host = world.hosts[0]
    a, b = subnet(TestNetwork("a", 101), "10.0.0.1/24"), subnet(TestNetwork("b", 102), "10.0.1.1/24")
    v6 = subnet(a.network, "fd00:a::1/64")
    guest, other = await host.guest(a, "10.0.0.11"), await host.guest(b, "10.0.1.12")
    router = world.router(a, b, v6)
    await world.tell([router], [floating_ip(guest, FLOATING, router)])
    return host, router, guest, other


def _spaces(host: Host, router: Router) -> tuple[str, str]:
    assert router.gateway is not None
    return f"qrouter-{router.router_id}", f"qext-{router.gateway.network_id}"


async def _fingerprint(host: Host, router: Router) -> dict[str, str]:
    """Interface indexes, rule handles, routes, process ids."""
    found = {"host": await host.run("ip", "-o", "link"), "rules": await host.run("nft", "-as", "list", "ruleset")}
    for space in _spaces(host, router):
        for what in (("ip", "-o", "addr"), ("ip", "route", "show", "table", "all"), ("nft", "-as", "list", "ruleset")):
            found[f"{space} {what}"] = await host.run(*what, space=space)
    found["advertisements"] = (host.folder / "routers" / router.router_id / "advertisements.pid").read_text()
    return found


async def test_what_is_right_is_not_touched(one: World) -> None:
    host, router, guest, other = await _with_a_router(one)
    async with serving(one.namespaces, one.outside.name, 80), serving(one.namespaces, guest.name, 22):
        connections = [
            await connect(one.namespaces, guest.name, INTERNET, 80),
            await connect(one.namespaces, other.name, INTERNET, 80),
            await connect(one.namespaces, one.outside.name, FLOATING, 22),
        ]
        before = await _fingerprint(host, router)
        await host.ensure()
        await host.routers.ensure(host.desired, suspects=[router.router_id])
        # A new agent knows nothing but what it was told.
        await host.stop_agent()
        host.start_agent()
        await host.ensure()
        assert await _fingerprint(host, router) == before
        for connection in connections:
            assert await connection.ask("still there?")


async def _kill_advertisements(host: Host, router: Router) -> None:
    pid = int((host.folder / "routers" / router.router_id / "advertisements.pid").read_text())
    await host.run("kill", "-9", str(pid))

    async def dead() -> bool:
        return not command_line(pid)

    await until(dead)


def _in(space: int, *argv: str) -> Callable[[Host, Router], Awaitable[object]]:
    return lambda host, router: host.run(*argv, space=_spaces(host, router)[space])


def _leg(*argv: str) -> Callable[[Host, Router], Awaitable[object]]:
    """LEG: the first leg of the router on the host."""

    async def do(host: Host, router: Router) -> object:
        links = links_of(await host.run("ip", "-j", "link"))
        names = sorted(name for name in links if name.startswith("rp-"))
        return await host.run(*(names[0] if each == "LEG" else each for each in argv))

    return do


def _inner(*argv: str) -> Callable[[Host, Router], Awaitable[object]]:
    """IF: an interface in the router's namespace."""

    async def do(host: Host, router: Router) -> object:
        space = _spaces(host, router)[0]
        links = links_of(await host.run("ip", "-j", "link", space=space))
        name = next(name for name in links if name.startswith("qr-"))
        return await host.run(*(name if each == "IF" else each for each in argv), space=space)

    return do


async def _delete_space(host: Host, name: str) -> None:
    await host.spaces.delete(name)


BREAKAGES: dict[str, Callable[[Host, Router], Awaitable[object]]] = {
    "forwarding off": _in(0, "sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_forward"),
    "router's rules flushed": _in(0, "nft", "flush", "ruleset"),
    "router's chain flushed": _in(0, "nft", "flush", "chain", "inet", "cirra", "outwards"),
    "floating address taken out": _in(0, "nft", "flush", "map", "inet", "cirra", "inwards"),
    "router's default route gone": _in(0, "ip", "route", "del", "default"),
    "neighbours flushed": _inner("ip", "neigh", "flush", "dev", "IF", "nud", "permanent"),
    "interface down": _inner("ip", "link", "set", "IF", "down"),
    "interface gone": _inner("ip", "link", "del", "IF"),
    "interface's addresses gone": _inner("ip", "addr", "flush", "dev", "IF"),
    "way out gone": _in(0, "ip", "link", "del", "qg"),
    "a foreign route": _in(0, "ip", "route", "add", "192.0.2.0/24", "via", "10.0.0.11", "proto", "static"),
    "leg down": _leg("ip", "link", "set", "LEG", "down"),
    "leg off its bridge": _leg("ip", "link", "set", "LEG", "nomaster"),
    "leg gone": _leg("ip", "link", "del", "LEG"),
    "gateway may be learnt elsewhere": _leg(
        "sh", "-c", "bridge fdb del $(bridge fdb show dev $0 | grep sticky | cut -d' ' -f1) dev $0 master", "LEG"
    ),
    "no namespace": lambda host, router: _delete_space(host, _spaces(host, router)[0]),
    "no external namespace": lambda host, router: _delete_space(host, _spaces(host, router)[1]),
    "external rules gone": _in(1, "nft", "delete", "table", "inet", "cirra"),
    "external interface gone": _in(1, "ip", "link", "del", "ext"),
    "external addresses gone": _in(1, "ip", "addr", "flush", "dev", "ext"),
    "external route gone": _in(1, "ip", "route", "del", "default"),
    "floating route gone": _in(1, "ip", "route", "del", f"{FLOATING}/32"),
    "ARP not answered": _in(1, "ip", "neigh", "del", "proxy", FLOATING, "dev", "ext"),
    "bridge's rules gone": lambda host, router: host.run("nft", "delete", "table", "bridge", "cirra-routers"),
    "bridge's ruleset flushed": lambda host, router: host.run("nft", "flush", "ruleset"),
    "advertisements dead": _kill_advertisements,
}  # fmt: skip


async def test_what_breaks_is_told_and_made_whole(one: World) -> None:
    """One after the other, on one host: what a breakage leaves behind breaks the next one."""
    host, router, guest, other = await _with_a_router(one)
    async with serving(one.namespaces, guest.name, 22):
        for what, breaks in BREAKAGES.items():
            await breaks(host, router)
            wrong = await host.routers.observe(host.desired)
            assert wrong.get(router.router_id), f"{what}: not seen"
            assert await host.routers.ensure(host.desired, suspects=wrong) == {}, what
            assert await host.routers.observe(host.desired) == {}, what
            connection = await connect(one.namespaces, one.outside.name, FLOATING, 22)
            assert await connection.ask("hello"), what
            assert await other.reaches(OUTSIDE) and await other.reaches(guest.address), what


async def test_a_repair_leaves_working_connections_alone(one: World) -> None:
    host, router, guest, other = await _with_a_router(one)
    async with serving(one.namespaces, one.outside.name, 80), serving(one.namespaces, guest.name, 22):
        connections = [
            await connect(one.namespaces, other.name, INTERNET, 80),
            await connect(one.namespaces, one.outside.name, FLOATING, 22),
        ]
        for breakage in ("router's rules flushed", "external rules gone", "floating route gone", "leg down"):
            await BREAKAGES[breakage](host, router)
            assert await host.routers.ensure(host.desired, suspects=[router.router_id]) == {}
            for connection in connections:
                assert await connection.ask(breakage)


async def test_a_router_leaves_no_trace(one: World) -> None:
    host = one.hosts[0]
    before = set(links_of(await host.run("ip", "-j", "link")))
    _, router, _, _ = await _with_a_router(one)
    await host.guest(subnet(TestNetwork("d", 104), "10.0.4.1/24"), "10.0.4.11")
    pid = int((host.folder / "routers" / router.router_id / "advertisements.pid").read_text())
    host.desired = Routing()
    await host.ensure()
    links = set(links_of(await host.run("ip", "-j", "link")))
    assert {name for name in links - before if not name.startswith(("tap", "brq", "vx"))} == set()
    assert named(host.directory, "qrouter-", "qext-") == []
    assert (await host.run("nft", "list", "tables")).strip() == ""
    assert not command_line(pid)
    assert {path.name for path in (host.folder / "routers").iterdir()} == {"links.json", "namespaces.json"}


async def test_one_of_two_routers_goes(one: World) -> None:
    host, router, guest, _ = await _with_a_router(one)
    theirs = await host.guest(subnet(TestNetwork("c", 103), "10.0.0.1/24"), "10.0.0.11")
    beside = one.router(theirs.subnet)
    floating = [floating_ip(guest, FLOATING, router)]
    await one.tell([router, beside], floating)
    async with serving(one.namespaces, one.outside.name, 80):
        connection = await connect(one.namespaces, guest.name, INTERNET, 80)
        going = await connect(one.namespaces, theirs.name, INTERNET, 80)
        assert await connection.ask("before") and await going.ask("before")
        await one.tell([router], floating)
        assert await connection.ask("after")
        assert named(host.directory, "qrouter-") == [_spaces(host, router)[0]]
        external = _spaces(host, router)[1]
        assert (await host.run("ip", "-o", "link", space=external)).count("rt-") == 1
        sources = await host.run("cat", "/proc/net/nf_conntrack", space=external, check=False)
        assert "169.254.1.3" not in sources


async def test_a_router_without_its_way_out_and_with_it_again(one: World) -> None:
    host, router, guest, other = await _with_a_router(one)
    await one.tell([replace(router, gateway=None)])
    assert not await other.pings(OUTSIDE)
    assert await other.reaches(guest.address)
    assert named(host.directory, "qext-") == []
    await one.tell([router])
    assert await other.reaches(OUTSIDE)


async def test_a_subnet_comes_and_goes(one: World) -> None:
    host, router, guest, other = await _with_a_router(one)
    c = subnet(TestNetwork("c", 103), "10.0.3.1/24")
    third = await host.guest(c, "10.0.3.13")
    async with serving(one.namespaces, one.outside.name, 80):
        connection = await connect(one.namespaces, other.name, INTERNET, 80)
        assert await connection.ask("before")
        await one.tell([replace(router, interfaces=(*router.interfaces, c.interface))])
        assert await third.reaches(guest.address) and await third.reaches(OUTSIDE)
        await one.tell([router])
        assert not await third.pings(guest.address)
        assert await connection.ask("after")


def _numbers(host: Host) -> dict[str, int]:
    found: dict[str, int] = json.loads((host.folder / "routers" / "links.json").read_text())
    return found


async def test_links_keep_their_numbers(one: World) -> None:
    """The addresses of a router's link are in the connections that it translates."""
    host, router, _, _ = await _with_a_router(one)
    before = _numbers(host)
    beside = [one.router() for _ in range(3)]
    await one.tell([*beside, router])
    numbers = _numbers(host)
    assert numbers[router.router_id] == before[router.router_id] and len(set(numbers.values())) == 4
    await host.stop_agent()
    host.start_agent()
    await one.tell([beside[2], router])
    assert _numbers(host) == {each.router_id: numbers[each.router_id] for each in (beside[2], router)}


async def test_without_an_address_of_the_host_it_is_said_and_the_rest_works(one: World) -> None:
    host, router, guest, other = await _with_a_router(one)
    [known] = host.desired.routers
    assert known.gateway is not None
    host.desired = replace(host.desired, routers=(replace(known, gateway=replace(known.gateway, host_addresses=())),))
    faults = await host.routers.ensure(host.desired)
    assert "no IPv4 address" in faults[router.router_id].message
    assert "no IPv4 address" in " ".join((await host.routers.observe(host.desired))[router.router_id])
    assert await guest.reaches(other.address)
    assert await guest.reaches(OUTSIDE), "its floating IP needs none"
    assert not await other.pings(OUTSIDE)


async def test_a_bridge_that_is_missing_is_said_and_other_routers_work(one: World) -> None:
    host, _, guest, other = await _with_a_router(one)
    lost = one.router(subnet(TestNetwork("nowhere", 105), "10.9.0.1/24"), way_out=False)
    host.desired = replace(host.desired, routers=(*host.desired.routers, lost))
    faults = await host.routers.ensure(host.desired)
    assert faults.keys() == {lost.router_id} and "is not there" in faults[lost.router_id].message
    assert (await host.routers.observe(host.desired)).keys() == {lost.router_id}
    assert await guest.reaches(other.address)
