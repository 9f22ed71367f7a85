from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_interface, ip_network
from pathlib import Path

import pytest

from core.errors import CirraError
from net_agent.drivers.linux.routing import names
from net_agent.drivers.linux.routing.arp import announcements
from net_agent.drivers.linux.routing.bridge_plan import Edge, bridge_table, link_local
from net_agent.drivers.linux.routing.connections import Connection, stale_in_external, stale_in_router
from net_agent.drivers.linux.routing.desired import Resolvers, Routing, externals, routing
from net_agent.drivers.linux.routing.external_plan import clashes, external_plan
from net_agent.drivers.linux.routing.layout import layout
from net_agent.drivers.linux.routing.names import LinkAddresses
from net_agent.drivers.linux.routing.numbers import LinkNumbers, Spaces
from net_agent.drivers.linux.routing.plan import Announcement, RouteEntry, RuleEntry
from net_agent.drivers.linux.routing.router_plan import advertised, router_plan
from net_agent.drivers.linux.ruleset import Table
from net_agent.model import FloatingIp, Route, Router, RouterInterface, Subnet
from net_agent.specs.wanted import Wanted
from tests.unit.net_agent.samples import DERIVED, NETWORK, PEER, SUBNET, make_port, sample_id

[ROUTER] = [each for each in DERIVED if isinstance(each, Router)]
[FLOATING] = [each for each in DERIVED if isinstance(each, FloatingIp)]
LINK = LinkAddresses(3)
QR = names.inner_device(SUBNET.subnet_id)
V6 = RouterInterface(
    NETWORK.network_id, sample_id(0xBB06), "0e:00:00:00:00:06", ip_interface("fd00::1/64"), NETWORK.bridge, 1450
)
PREFIX = IPv6Network("fd00::/64")
WANTED = Wanted()
for each in (NETWORK, PEER, ROUTER, FLOATING, make_port(11)):
    WANTED.put(each)
DESIRED = routing(WANTED)


def _elements(table: Table, name: str) -> frozenset[str]:
    [found] = [each.elements for each in table.sets if each.name == name]
    return found


def _rules(table: Table, name: str) -> list[str]:
    [found] = [chain.rules for chain in table.chains if chain.name == name]
    return [rule.text for rule in found]


def test_a_router_knows_who_is_on_its_subnets_here_and_elsewhere() -> None:
    plan = router_plan(ROUTER, DESIRED, None)
    assert plan.neighbours == {
        (QR, ip_address("10.0.0.11")): "fa:16:3e:00:00:0b",
        (QR, ip_address("10.0.0.33")): "fa:16:3e:00:00:21",
    }
    both = replace(ROUTER, interfaces=(*ROUTER.interfaces, V6))
    assert (names.inner_device(V6.subnet_id), ip_address("fd00::21")) in router_plan(both, DESIRED, None).neighbours


def test_a_port_that_is_here_and_elsewhere_is_here() -> None:
    wanted = Wanted()
    for each in (NETWORK, replace(PEER, addresses=(ip_address("10.0.0.11"),)), ROUTER, make_port(11)):
        wanted.put(each)
    assert routing(wanted).stations == {NETWORK.network_id: {ip_address("10.0.0.11"): "fa:16:3e:00:00:0b"}}


def test_routes_of_a_router() -> None:
    plan = router_plan(ROUTER, DESIRED, LINK)
    assert RouteEntry(ip_network("0.0.0.0/0"), LINK.outer.ip, "qg") in plan.routes
    assert RouteEntry(ip_network("::/0"), ip_address("fe80::1"), "qg") in plan.routes
    assert RouteEntry(ip_network("10.1.0.0/16"), ip_address("10.0.0.7"), QR) in plan.routes
    [rule] = plan.rules
    assert rule == RuleEntry(QR, IPv4Network("169.254.169.254/32"), rule.table)
    assert RouteEntry(IPv4Network("169.254.169.254/32"), SUBNET.dhcp_ip, QR, rule.table) in plan.routes
    inside = router_plan(ROUTER, DESIRED, None)
    assert not [entry for entry in inside.routes if entry.device == "qg"]


def test_a_static_default_route_goes_before_the_way_out() -> None:
    own = replace(ROUTER, routes=(Route(ip_network("0.0.0.0/0"), ip_address("10.0.0.7")),))
    routes = router_plan(own, DESIRED, LINK).routes
    assert RouteEntry(ip_network("0.0.0.0/0"), ip_address("10.0.0.7"), QR) in routes
    assert RouteEntry(ip_network("0.0.0.0/0"), LINK.outer.ip, "qg") not in routes


def test_a_router_translates() -> None:
    table = router_plan(ROUTER, DESIRED, LINK).table
    assert _elements(table, "inwards") == {"203.0.113.77 : 10.0.0.11"}
    assert _elements(table, "outwards") == {"10.0.0.11 : 203.0.113.77"}
    assert _elements(table, "subnets") == {"10.0.0.0/24"}
    assert _rules(table, "outwards")[-1] == f'oifname "qg" snat ip to {LINK.inner.ip}'
    assert ROUTER.gateway is not None
    without = replace(ROUTER, gateway=replace(ROUTER.gateway, snat=False))
    assert not [rule for rule in _rules(router_plan(without, DESIRED, LINK).table, "outwards") if "169.254" in rule]
    inside = router_plan(replace(ROUTER, gateway=None), DESIRED, None).table
    assert _elements(inside, "inwards") == frozenset() and _rules(inside, "outwards") == []


def test_a_floating_ip_of_another_external_network_is_not_this_gateways() -> None:
    elsewhere = replace(FLOATING, external_network_id=sample_id(0xAA09))
    desired = replace(DESIRED, floating_ips=(elsewhere,))
    assert _elements(router_plan(ROUTER, desired, LINK).table, "inwards") == frozenset()


def test_two_floating_ips_of_one_guest_both_lead_in_and_one_leads_out() -> None:
    second = replace(FLOATING, floating_ip_id=sample_id(0xCC03), floating_address=IPv4Address("203.0.113.70"))
    table = router_plan(ROUTER, replace(DESIRED, floating_ips=(FLOATING, second)), LINK).table
    assert len(_elements(table, "inwards")) == 2
    assert _elements(table, "outwards") == {"10.0.0.11 : 203.0.113.70"}


def test_an_external_namespace() -> None:
    [external] = externals(DESIRED, {ROUTER.router_id: LINK}).values()
    plan = external_plan(external)
    device = names.link_device(ROUTER.router_id)
    assert {str(entry) for entry in plan.routes} == {
        "0.0.0.0/0 via 203.0.113.1 dev ext",
        "::/0 via 2001:db8::1 dev ext",
        f"203.0.113.77/32 via {LINK.inner.ip} dev {device}",
    }
    assert plan.proxies == {("ext", IPv4Address("203.0.113.77"))}
    assert _elements(plan.table, "visible") == {"203.0.113.10", "203.0.113.77"}
    assert _elements(plan.table, "visible6") == frozenset()
    assert _rules(plan.table, "outwards") == ["ip saddr 169.254.0.0/16 snat ip to 203.0.113.10"]


def test_subnets_that_are_seen_outside_lead_to_their_router() -> None:
    assert ROUTER.gateway is not None
    open_router = replace(ROUTER, interfaces=(*ROUTER.interfaces, V6), gateway=replace(ROUTER.gateway, snat=False))
    second = replace(open_router, router_id=sample_id(0xCC07))
    desired = replace(DESIRED, routers=(open_router, second), floating_ips=())
    [external] = externals(desired, {open_router.router_id: LINK, second.router_id: LinkAddresses(4)}).values()
    plan = external_plan(external)
    device = names.link_device(open_router.router_id)
    assert RouteEntry(IPv4Network("10.0.0.0/24"), LINK.inner.ip, device) in plan.routes
    assert RouteEntry(ip_network("fd00::/64"), ip_address("fe80::2"), device) in plan.routes
    assert _elements(plan.table, "visible6") == {"fd00::/64"}
    assert clashes(external).keys() == {second.router_id}, "the first one has it"


def test_what_a_host_is_laid_out_as() -> None:
    spaces = layout(DESIRED, {ROUTER.router_id: LINK}, lambda name: Path("/run/netns") / name)
    assert [space.name for space in spaces] == [
        f"qrouter-{ROUTER.router_id}",
        f"qext-{sample_id(0xAA02)}",
    ]
    router, external = spaces
    assert router.legs[0].bridge == NETWORK.bridge and external.pairs[0].router.name == router.name
    assert layout(Routing(), {}, Path) == ()
    assert all(len(name) <= 15 for space in spaces for leg in space.legs for name in (leg.outer, leg.inner))


def test_a_router_is_announced_where_guests_make_their_addresses_with_whom_to_ask_for_names() -> None:
    router = replace(ROUTER, interfaces=(*ROUTER.interfaces, V6))
    six = Subnet(V6.subnet_id, PREFIX, IPv6Address("fd00::1"), IPv6Address("fd00::2"))
    for no_dhcp in (False, True):
        wanted = Wanted()
        for each in (replace(NETWORK, subnets=(SUBNET, replace(six, no_dhcp=no_dhcp))), router):
            wanted.put(each)
        names_told = Resolvers((ip_address("fd00::2"),), NETWORK.dns_domain)
        told = Announcement(names.inner_device(V6.subnet_id), PREFIX, 1450, names_told)
        assert advertised(router, routing(wanted)) == (() if no_dhcp else (told,))


def test_what_passes_between_hosts() -> None:
    edges = {NETWORK.bridge: (Edge("vx1", ""), Edge("eth1", "02:00:00:00:00:01"))}
    router = replace(ROUTER, interfaces=(*ROUTER.interfaces, V6))
    table = bridge_table([router], edges, ["rp-1"])
    assert _elements(table, "edges") == {"vx1", "eth1"}
    assert _elements(table, "addresses") == {"vx1 . 10.0.0.1", "eth1 . 10.0.0.1"}
    assert _elements(table, "names") == {"eth1 : 02:00:00:00:00:01"}
    asked = [rule for rule in _rules(table, "outwards") if "@th" in rule]
    assert len(asked) == 4, "each IPv6 gateway by its address and its link-local one, on each edge"


def test_a_link_local_address_follows_from_the_mac_address() -> None:
    assert link_local("fa:16:3e:12:34:56") == ip_address("fe80::f816:3eff:fe12:3456")


def test_links_have_addresses_of_their_own() -> None:
    assert (str(LinkAddresses(0).outer), str(LinkAddresses(0).inner)) == ("169.254.1.0/31", "169.254.1.1/31")
    last = LinkAddresses(names.MAX_LINKS - 1)
    assert last.inner.ip < IPv4Address("169.254.169.254") and last.inner.ip == IPv4Address("169.254.127.255")


def test_links_are_kept_and_given_again(tmp_path: Path) -> None:
    path = tmp_path / "routers" / "links.json"
    first = LinkNumbers(path).allot({"a", "b", "c"})
    assert sorted(link.number for link in first.values()) == [0, 1, 2]
    again = LinkNumbers(path).allot({"b", "d"})
    assert again["b"] == first["b"] and again["d"].number not in (again["b"].number,)
    assert again["d"].number in (0, 1)


def test_there_is_an_end_to_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("net_agent.drivers.linux.routing.numbers.MAX_LINKS", 2)
    with pytest.raises(CirraError) as refused:
        LinkNumbers(tmp_path / "links.json").allot({"a", "b", "c"})
    assert refused.value.reason == "TOO_MANY_ROUTERS"


def test_namespaces_are_remembered(tmp_path: Path) -> None:
    path = tmp_path / "routers" / "namespaces.json"
    assert Spaces(path).names() == frozenset()
    Spaces(path).set(frozenset({"qrouter-1"}))
    assert Spaces(path).names() == {"qrouter-1"}


def _connection(*ends: str) -> Connection:
    return Connection(*map(IPv4Address, ends))


FIXED, FLOAT, CLIENT = IPv4Address("10.0.0.11"), IPv4Address("203.0.113.77"), "198.51.100.7"


@pytest.mark.parametrize(
    ("ends", "stale"),
    [
        ((CLIENT, "203.0.113.77", "10.0.0.11", CLIENT), False),
        ((CLIENT, "203.0.113.77", "10.0.0.12", CLIENT), True),
        ((CLIENT, "203.0.113.78", "10.0.0.11", CLIENT), True),
        (("10.0.0.11", CLIENT, CLIENT, "203.0.113.77"), False),
        (("10.0.0.12", CLIENT, CLIENT, "203.0.113.77"), True),
        (("10.0.0.12", CLIENT, CLIENT, "169.254.1.1"), False),
        (("10.0.0.12", "10.1.0.1", "10.1.0.1", "10.0.0.12"), False),
        (("10.0.0.12", "203.0.113.77", "10.0.0.11", "203.0.113.10"), False),
    ],
)
def test_connections_that_no_rule_would_make(ends: tuple[str, ...], stale: bool) -> None:
    assert stale_in_router({FLOAT: FIXED}, {FIXED: FLOAT})(_connection(*ends)) == stale


@pytest.mark.parametrize(
    ("ends", "stale"),
    [
        (("169.254.1.1", CLIENT, CLIENT, "203.0.113.10"), False),
        (("169.254.1.3", CLIENT, CLIENT, "203.0.113.10"), True),
        (("169.254.1.1", CLIENT, CLIENT, "203.0.113.9"), True),
        ((CLIENT, "203.0.113.10", "203.0.113.10", CLIENT), False),
    ],
)
def test_connections_of_routers_that_are_gone(ends: tuple[str, ...], stale: bool) -> None:
    judge = stale_in_external({IPv4Address("169.254.1.1")}, {IPv4Address("203.0.113.10")})
    assert judge(_connection(*ends)) == stale


def test_an_announcement_is_two_broadcast_frames() -> None:
    mac = bytes.fromhex("0e0000000011")
    request, reply = announcements(mac, IPv4Address("203.0.113.77"))
    for frame, operation in ((request, 1), (reply, 2)):
        assert frame[:14] == b"\xff" * 6 + mac + b"\x08\x06" and len(frame) == 42
        assert frame[20:22] == operation.to_bytes(2, "big")
        assert frame[22:28] == mac and frame[28:32] == frame[38:42] == IPv4Address("203.0.113.77").packed
