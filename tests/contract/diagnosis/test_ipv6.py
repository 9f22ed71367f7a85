"""A guest with IPv6 behind a router: nothing broken, and each breakage named."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import ip_address, ip_interface
from pathlib import Path

import pytest

from cirra.agent.v1.diagnosis_pb2 import PATH_HOP_STATE_OK, PathFound
from core.ids import dhcp_namespace
from net_agent.drivers.linux.dhcp_link import inner_device
from net_agent.drivers.linux.dnsmasq_config import NetworkPaths
from net_agent.drivers.linux.files import replace_text
from net_agent.drivers.linux.routing import names
from net_agent.drivers.linux.routing.bridge_plan import link_local
from net_agent.model import Router
from tests.contract.diagnosis.site import Site, all_well, serving, states, summary
from tests.contract.network.test_ipv6 import PREFIX, dual_stack, has, port_on, speak_ipv6
from tests.contract.network.test_routers import OUTSIDE, make_router
from tests.contract.network.waiting import until

pytestmark = pytest.mark.root

PROVIDER, OWN = ip_address("2001:db8:ffff::1"), ip_interface("2001:db8:ffff::11/64")
ROUTER_MAC = "fa:16:3f:00:00:06"
HOPS = ("advertisement", "metadata-ipv6", "gateway-ipv6", "dns-ipv6", "outside-ipv6")


@dataclass(slots=True)
class SixRouted:
    site: Site
    router: Router

    @property
    def devices(self) -> dict[str, str]:
        """Of the IPv6 subnet."""
        interface = self.router.interfaces[1]
        return {
            "router": names.router_namespace(self.router.router_id),
            "inner": names.inner_device(interface.subnet_id),
            "outer": names.outer_device(self.router.router_id, interface.subnet_id),
            "gateway": str(link_local(interface.mac_address)),
            "service": inner_device(self.site.network.network_id),
        }


@pytest.fixture
async def six(tmp_path: Path) -> AsyncIterator[SixRouted]:
    """The provider's router is the other end of the uplink, and routes the subnet to this host."""
    async with serving(tmp_path) as (linux, server):
        for command in (
            "addr add 203.0.113.1/24 dev provider1",
            f"addr add {PROVIDER}/64 dev provider1 nodad",
            "link set provider1 up",
            f"route add {PREFIX} via {OWN.ip} dev provider1",
        ):
            await linux.command("ip", *command.split())
        network = dual_stack()
        four, subnet = network.subnets
        by_four = make_router(replace(network, subnets=(four,)))
        interface = replace(
            by_four.interfaces[0],
            subnet_id=subnet.subnet_id,
            mac_address=ROUTER_MAC,
            address=ip_interface(f"{subnet.gateway_ip}/64"),
        )
        assert by_four.gateway is not None
        gateway = replace(
            by_four.gateway,
            host_addresses=(*by_four.gateway.host_addresses, OWN),
            next_hops=(*by_four.gateway.next_hops, PROVIDER),
        )
        router = replace(by_four, interfaces=(*by_four.interfaces, interface), gateway=gateway)
        port = port_on(network, 11)
        await linux.driver.plug(port)
        for each in (OUTSIDE, router):
            await linux.driver.keep(each)
        guest = await linux.guest(port)
        assert await guest.dhcp() is not None
        await speak_ipv6(guest)
        await until(partial(has, guest, str(port.addresses[1])))
        yield SixRouted(Site(linux, port, guest, server), router)


async def test_a_guest_with_both_families(six: SixRouted) -> None:
    found = await six.site.is_well()
    assert {states(found)[name] for name in HOPS} == {PATH_HOP_STATE_OK}, summary(found)


async def test_its_probes_are_followed(six: SixRouted) -> None:
    found = await six.site.finds(all_well, capture=True)
    devices = six.devices
    tap = six.site.port.device
    for probe, places in (
        (f"echo to {PROVIDER}", (tap, devices["inner"], names.GATEWAY_DEVICE, names.EXTERNAL_DEVICE)),
        (f"neighbour {devices['gateway']}", (tap, devices["inner"])),
        ("DNS for guest-11.novalocal (IPv6)", (tap, devices["service"])),
        ("SYN to [fe80::a9fe:a9fe]:80", (tap, devices["service"])),
    ):
        [trace] = [trace for trace in found.traces if trace.probe == probe]
        seen = {each.device: (each.probe_seen, each.answer_seen) for each in trace.sightings}
        assert {device: seen.get(device) for device in places} == dict.fromkeys(places, (True, True)), trace


async def test_a_guest_that_does_not_speak_ipv6_does_not_spoil_the_answers(six: SixRouted) -> None:
    """What is looked at is the network's, not the guest's."""
    await six.site.guest.run("sysctl", "-w", "net.ipv6.conf.eth0.disable_ipv6=1")

    def fine(found: PathFound) -> bool:
        return {states(found)[name] for name in HOPS} == {PATH_HOP_STATE_OK}

    found = await six.site.finds(fine)
    assert fine(found), summary(found)


# ---- breaking it

Break = Callable[[SixRouted], Awaitable[object]]


def _inside(*argv: str) -> Break:
    async def act(six: SixRouted) -> None:
        router = six.devices["router"]
        await six.site.command("ip", "netns", "exec", router, *(part.format(**six.devices) for part in argv))

    return act


def _on_bridges(*rule: str) -> Break:
    """What somebody's rules drop on the bridge."""

    async def act(six: SixRouted) -> None:
        await six.site.command("nft", "add table bridge foreign")
        await six.site.command("nft", "add chain bridge foreign f { type filter hook forward priority 0; }")
        await six.site.command("nft", "add", "rule", "bridge", "foreign", "f", *rule, "drop")

    return act


async def _stop_announcing(six: SixRouted) -> None:
    folder = six.site.linux.folder / "routers" / six.router.router_id
    pid = (folder / "advertisements.pid").read_text().strip()
    await six.site.command("kill", "-9", pid)


async def _wrong_names(six: SixRouted) -> None:
    paths = NetworkPaths(six.site.linux.folder / "networks" / six.site.network.network_id)
    told = f"10.77.0.11 guest-11.{six.site.network.dns_domain} guest-11\n"
    replace_text(paths.names, f"{told}fd00:77::bad guest-11.{six.site.network.dns_domain} guest-11\n")
    await six.site.command("kill", "-HUP", str(six.site.linux.pids(six.site.network)["dnsmasq"]))


async def _no_metadata_address(six: SixRouted) -> None:
    network_id = six.site.network.network_id
    where = ("-n", dhcp_namespace(network_id), "addr", "del")
    await six.site.command("ip", *where, "fe80::a9fe:a9fe/64", "dev", inner_device(network_id))


async def _provider_gone(six: SixRouted) -> None:
    await six.site.command("ip", "addr", "del", f"{PROVIDER}/64", "dev", "provider1")


BREAKAGES: dict[str, tuple[Break, str, str]] = {
    "nothing is advertised": (
        _on_bridges("icmpv6", "type", "nd-router-advert"), "advertisement", "ADVERTISEMENT_MISSING",
    ),
    "the router does not announce itself": (_stop_announcing, "advertisement", "ROUTER_NOT_ADVERTISED"),
    "the gateway has another MAC address": (
        _inside("ip", "link", "set", "{inner}", "address", "fa:16:3f:00:00:99"), "gateway-ipv6", "GATEWAY_FOREIGN",
    ),
    "the gateway is not heard": (
        _on_bridges("ether", "saddr", ROUTER_MAC, "icmpv6", "type", "nd-neighbor-advert"),
        "gateway-ipv6", "GATEWAY_SILENT",
    ),
    "metadata by IPv6 is dropped": (
        _on_bridges("ip6", "daddr", "fe80::a9fe:a9fe", "tcp", "dport", "80"), "metadata-ipv6", "METADATA_NO_ANSWER",
    ),
    "the address of metadata is gone": (_no_metadata_address, "metadata-ipv6", "METADATA_NO_ANSWER"),
    "DNS by IPv6 is dropped": (
        _on_bridges("meta", "protocol", "ip6", "udp", "dport", "53"), "dns-ipv6", "DNS_NO_ANSWER",
    ),
    "wrong DNS": (_wrong_names, "dns-ipv6", "DNS_WRONG_ANSWER"),
    "the provider's router gone": (_provider_gone, "outside-ipv6", "OUTSIDE_SILENT"),
    "the way out": (_inside("ip", "-6", "route", "del", "default"), "outside-ipv6", "OUTSIDE_SILENT"),
}  # fmt: skip


@pytest.mark.parametrize("breakage", BREAKAGES)
async def test_a_breakage_is_named(six: SixRouted, breakage: str) -> None:
    act, hop, reason = BREAKAGES[breakage]
    await act(six)
    told = await six.site.names(hop, reason)
    assert told.observed and told.remedy
