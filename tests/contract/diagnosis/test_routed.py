"""A guest behind a router, with and without a floating IP: nothing broken, and each breakage named."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, ip_network
from pathlib import Path

import pytest

from cirra.agent.v1.desired_pb2 import Failure, ObjectFault
from cirra.agent.v1.diagnosis_pb2 import PATH_HOP_STATE_NOT_APPLICABLE, PATH_HOP_STATE_OK
from net_agent.diagnosis.path import Targets, Wish
from net_agent.drivers.base import NetworkFault
from net_agent.drivers.linux.routing import names
from net_agent.model import FloatingIp, Router, SecurityGroup
from tests.contract.diagnosis.site import Site, all_well, broken, serving, states, summary
from tests.contract.network.hosts import make_group, make_network, make_port, rule
from tests.contract.network.test_routers import OUTSIDE, make_floating_ip, make_router

pytestmark = pytest.mark.root

INTERNET = "198.51.100.7"
SSH = Wish("tcp/22", "203.0.113.1")


@dataclass(slots=True)
class Routed:
    site: Site
    router: Router
    floating: FloatingIp

    @property
    def devices(self) -> dict[str, str]:
        interface = self.router.interfaces[0]
        return {
            "router": names.router_namespace(self.router.router_id),
            "external": names.external_namespace(OUTSIDE.network_id),
            "inner": names.inner_device(interface.subnet_id),
            "outer": names.outer_device(self.router.router_id, interface.subnet_id),
            "leg": names.external_leg(OUTSIDE.network_id),
            "fixed": str(self.floating.fixed_address),
            "floating": str(self.floating.floating_address),
        }

    @property
    def group_id(self) -> str:
        [group_id] = self.site.port.security_group_ids
        return group_id

    async def give_floating_ip(self) -> None:
        await self.site.linux.driver.keep(self.floating)


@pytest.fixture
async def routed(tmp_path: Path) -> AsyncIterator[Routed]:
    """The provider's router, and the Internet behind it, are the other end of the host's uplink."""
    async with serving(tmp_path) as (linux, server):
        await linux.command("ip", "addr", "add", "203.0.113.1/24", "dev", "provider1")
        await linux.command("ip", "link", "set", "provider1", "up")
        await linux.command("ip", "addr", "add", f"{INTERNET}/32", "dev", "lo")
        ssh = rule(protocol=6, ports=(22, 22), remote_cidr=ip_network("203.0.113.0/28"))
        group = make_group(ssh, rule(egress=True))
        await linux.driver.keep(group)
        port = make_port(make_network(), 11, security_group_ids=(group.group_id,))
        router = make_router(port.network)
        await linux.driver.plug(port)
        for each in (OUTSIDE, router):
            await linux.driver.keep(each)
        guest = await linux.guest(port)
        assert await guest.dhcp() is not None
        site = Site(linux, port, guest, server, Targets(address=IPv4Address(INTERNET)))
        yield Routed(site, router, make_floating_ip(port, router))


async def listen(routed: Routed) -> socket.socket:
    return await routed.site.guest.inside(lambda: socket.create_server(("10.77.0.11", 22)))


async def test_a_guest_that_goes_out_by_its_host(routed: Routed) -> None:
    found = await routed.site.is_well()
    told = states(found)
    for name in ("groups-out", "router", "gateway", "translation", "way-out", "external-uplink", "next-hop", "outside"):
        assert told[name] == PATH_HOP_STATE_OK, summary(found)
    for name in ("floating-arp", "floating-route", "floating-dnat", "groups", "reached"):
        assert told[name] == PATH_HOP_STATE_NOT_APPLICABLE, summary(found)


async def test_a_guest_that_is_reached(routed: Routed) -> None:
    await routed.give_floating_ip()
    with await listen(routed):
        found = await routed.site.is_well(SSH)
    told = states(found)
    for name in ("translation", "next-hop", "floating-arp", "floating-route", "floating-dnat", "groups", "reached"):
        assert told[name] == PATH_HOP_STATE_OK, summary(found)


async def test_nobody_listens_and_no_rule(routed: Routed) -> None:
    await routed.give_floating_ip()
    await routed.site.names("reached", "NOTHING_LISTENS", SSH)
    refused = await routed.site.names("groups", "NO_GROUP_RULE", Wish("tcp/23", "203.0.113.1"))
    command = f"cirra security group rule create {routed.group_id} --ingress --protocol tcp --dst-port 23"
    assert refused.remedy == f"{command} --remote-ip 203.0.113.1/32"
    await routed.site.names("groups", "GROUP_RULE_PARTIAL", Wish("tcp/22", "203.0.113.0/24"))


async def test_a_rule_that_lets_in_is_named_and_is_what_lets_in(routed: Routed) -> None:
    """What the hop says of the rules, the kernel does: first without, then with a rule for port 23."""
    await routed.give_floating_ip()
    wish, wanted = Wish("tcp/23", "203.0.113.1"), routed.site.linux.driver
    with await routed.site.guest.inside(lambda: socket.create_server(("10.77.0.11", 23))):
        shut = {"groups": "NO_GROUP_RULE", "reached": "NOT_REACHED"}
        found = await routed.site.finds(lambda found: broken(found) == shut, wish)
        assert broken(found) == shut, summary(found)
        telnet = rule(protocol=6, ports=(23, 23))
        await wanted.keep(SecurityGroup(routed.group_id, (telnet, rule(egress=True))))
        found = await routed.site.is_well(wish)
    [told] = [hop.observed for hop in found.hops if hop.name == "groups"]
    assert telnet.rule_id in told and routed.group_id in told


async def test_a_probe_is_followed_through_every_translation(routed: Routed) -> None:
    await routed.give_floating_ip()
    with await listen(routed):
        found = await routed.site.finds(all_well, SSH, capture=True)
    devices = routed.devices
    inside, out = [devices["outer"], devices["inner"]], [names.GATEWAY_DEVICE, names.EXTERNAL_DEVICE, "uplink1"]
    floating = devices["floating"]
    for probe, places in (
        (f"echo to {INTERNET}", [routed.site.port.device, *inside, *out]),
        (f"SYN to {floating}:22", ["uplink1", *out, *inside, routed.site.port.device]),
        (f"ARP for {floating}", ["uplink1", names.EXTERNAL_DEVICE]),
    ):
        [trace] = [trace for trace in found.traces if trace.probe == probe]
        seen = {each.device: (each.probe_seen, each.answer_seen) for each in trace.sightings}
        assert {device: seen[device] for device in places} == dict.fromkeys(places, (True, True)), trace


Break = Callable[[Routed], Awaitable[object]]


def _command(*argv: str, floating: bool = False) -> Break:
    """{router}, {external} are namespaces; see `Routed.devices`."""

    async def act(routed: Routed) -> None:
        if floating:
            await routed.give_floating_ip()
        await routed.site.command(*(part.format(**routed.devices) for part in argv))

    return act


def _inside(namespace: str, *argv: str, floating: bool = False) -> Break:
    return _command("ip", "netns", "exec", namespace, *argv, floating=floating)


async def _no_host_address(routed: Routed) -> None:
    gateway = routed.router.gateway
    assert gateway is not None
    await routed.site.linux.driver.drop("router", routed.router.router_id)
    with pytest.raises(NetworkFault):
        await routed.site.linux.driver.keep(replace(routed.router, gateway=replace(gateway, host_addresses=())))


async def _no_rule_out(routed: Routed) -> None:
    await routed.site.linux.driver.keep(SecurityGroup(routed.group_id, ()))


_FLUSH = ("nft", "flush", "chain", "inet", "cirra", "outwards")
_DROP_IN = ("nft", "delete element inet cirra inwards {{ {floating} : {fixed} }}")
_DROP_OUT = ("nft", "delete element inet cirra outwards {{ {fixed} : {floating} }}")
BREAKAGES: dict[str, tuple[Break, str, str]] = {
    "a group without rules": (_no_rule_out, "groups-out", "NO_EGRESS_RULE"),
    "router's interface gone": (
        _inside("{router}", "ip", "link", "del", "{inner}"), "router", "ROUTER_INTERFACE_MISSING",
    ),
    "router's interface down": (
        _inside("{router}", "ip", "link", "set", "{inner}", "down"), "router", "ROUTER_INTERFACE_MISSING",
    ),
    "router off the bridge": (_command("ip", "link", "set", "{outer}", "nomaster"), "router", "ROUTER_OFF_BRIDGE"),
    "NAT rule removed": (_inside("{router}", *_FLUSH), "translation", "SNAT_MISSING"),
    "the host's NAT rule removed": (_inside("{external}", *_FLUSH), "translation", "SNAT_MISSING"),
    "NAT table removed": (
        _inside("{router}", "nft", "delete", "table", "inet", "cirra"), "translation", "NAT_TABLE_MISSING",
    ),
    "router's default route": (_inside("{router}", "ip", "route", "del", "default"), "way-out", "ROUTE_MISSING"),
    "external default route": (_inside("{external}", "ip", "route", "del", "default"), "way-out", "ROUTE_MISSING"),
    "the leg off its bridge": (_command("ip", "link", "set", "{leg}", "nomaster"), "way-out", "WAY_OUT_BROKEN"),
    "no host address": (_no_host_address, "translation", "NO_HOST_ADDRESS"),
    "uplink down": (_command("ip", "link", "set", "uplink1", "down"), "external-uplink", "UPLINK_DOWN"),
    "uplink off its bridge": (
        _command("ip", "link", "set", "uplink1", "nomaster"), "external-uplink", "UPLINK_OFF_BRIDGE",
    ),
    "cable pulled": (_command("ip", "link", "set", "provider1", "down"), "external-uplink", "UPLINK_NO_CARRIER"),
    "provider's router gone": (
        _command("ip", "addr", "del", "203.0.113.1/24", "dev", "provider1"), "next-hop", "NEXT_HOP_SILENT",
    ),
    "the Internet gone": (_command("ip", "addr", "del", f"{INTERNET}/32", "dev", "lo"), "outside", "OUTSIDE_SILENT"),
    "floating IP not translated out": (
        _inside("{router}", *_DROP_OUT, floating=True), "translation", "FLOATING_IP_NOT_TRANSLATED",
    ),
    "floating IP not translated in": (
        _inside("{router}", *_DROP_IN, floating=True), "floating-dnat", "FLOATING_IP_NOT_TRANSLATED",
    ),
    "floating IP silent": (
        _inside("{external}", "ip", "neigh", "del", "proxy", "{floating}", "dev", "ext", floating=True),
        "floating-arp", "FLOATING_IP_SILENT",
    ),
    "floating IP's route": (
        _inside("{external}", "ip", "route", "del", "{floating}/32", floating=True),
        "floating-route", "FLOATING_ROUTE_MISSING",
    ),
}  # fmt: skip


@pytest.mark.parametrize("breakage", BREAKAGES)
async def test_a_breakage_is_named(routed: Routed, breakage: str) -> None:
    act, hop, reason = BREAKAGES[breakage]
    await act(routed)
    told = await routed.site.names(hop, reason)
    assert told.observed and told.remedy


async def test_why_an_uplink_is_off_its_bridge_is_told(routed: Routed) -> None:
    await routed.site.command("ip", "link", "set", "uplink1", "nomaster")
    await routed.site.command("ip", "addr", "add", "192.0.2.1/24", "dev", "uplink1")
    faults = await routed.site.linux.driver.heal()
    fault = faults["network", OUTSIDE.network_id]
    failure = Failure(reason=fault.reason, message=fault.message, remedy=fault.remedy)
    routed.site.faults = [ObjectFault(kind="network", object_id=OUTSIDE.network_id, failure=failure)]
    told = await routed.site.names("external-uplink", "UPLINK_OFF_BRIDGE")
    assert fault.message in told.observed and told.remedy == fault.remedy
