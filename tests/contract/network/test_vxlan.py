"""Guests of one VXLAN network on two hosts: they find each other, and nothing else crosses."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from net_agent.drivers.base import NetworkFault
from net_agent.drivers.linux.vxlan import vxlan_device
from net_agent.model import Network
from tests.contract.network.fabric import Fabric, make_vxlan, peer_of, two_hosts
from tests.contract.network.hosts import UNDERLAY, LinuxHost, make_port

pytestmark = pytest.mark.root


@pytest.fixture
async def fabric(tmp_path: Path) -> AsyncIterator[Fabric]:
    async with two_hosts(tmp_path) as made:
        yield made


async def sent(host: LinuxHost, network: Network) -> int:
    """Frames that went into the network's tunnel."""
    [link] = json.loads(await host.command("ip", "-j", "-s", "link", "show", vxlan_device(network.network_id)))
    return int(link["stats64"]["tx"]["packets"])


async def test_guests_of_two_hosts_reach_each_other_by_name(fabric: Fabric) -> None:
    network = make_vxlan(77)
    one = await fabric.boot(fabric.first, network, 11)
    two = await fabric.boot(fabric.second, network, 12)
    assert await one.reaches("10.77.0.12") and await two.reaches("10.77.0.11")
    assert await one.resolve("guest-12") == await one.resolve("guest-12.novalocal") == "10.77.0.12"
    assert await two.resolve("guest-11") == "10.77.0.11"


async def test_frames_as_long_as_the_guests_are_told_pass(fabric: Fabric) -> None:
    network = make_vxlan(77, mtu=1450)
    one = await fabric.boot(fabric.first, network, 11)
    await fabric.boot(fabric.second, network, 12)
    assert "mtu 1450" in (await one.run("ip", "link", "show", "eth0")).stdout
    # IPv4 and ICMP have 28 octets of headers.
    assert await one.reaches("10.77.0.12", octets=1422)
    fragments = await fabric.first.command("cat", "/proc/net/snmp")
    names, values = (line.split() for line in fragments.splitlines() if line.startswith("Ip:"))
    assert dict(zip(names, values, strict=True))["FragCreates"] == "0", "nor is the underlay's limit hit"


async def test_nothing_floods_and_arp_is_answered_where_it_is_asked(fabric: Fabric) -> None:
    network = make_vxlan(77)
    one = await fabric.boot(fabric.first, network, 11)
    await fabric.boot(fabric.second, network, 12)
    before = await sent(fabric.first, network)
    assert await one.finds("10.77.0.12"), "the bridge answers for the peer"
    assert await one.finds_nobody_at("10.77.0.99")
    for everybody in ("10.77.0.255", "224.0.0.1"):
        await one.run("busybox", "ping", "-c", "1", "-W", "1", everybody)
    await one.run("ip", "neigh", "replace", "10.77.0.98", "lladdr", "fa:16:3e:00:00:98", "dev", "eth0")
    assert await one.is_cut_off_from("10.77.0.98")
    assert await sent(fabric.first, network) == before
    assert await one.reaches("10.77.0.12")
    assert await sent(fabric.first, network) > before


async def test_tenants_with_the_same_subnet_are_apart(fabric: Fabric) -> None:
    mine, other = make_vxlan(77), make_vxlan(78)
    one = await fabric.boot(fabric.first, mine, 11)
    two = await fabric.boot(fabric.second, mine, 12)
    stranger = await fabric.boot(fabric.second, other, 13)
    twin = await fabric.boot(fabric.first, other, 12)
    assert await one.reaches("10.77.0.12") and await stranger.reaches("10.77.0.12")
    assert await one.is_cut_off_from("10.77.0.13") and await stranger.is_cut_off_from("10.77.0.11")
    await fabric.second.unplug_guest(two)
    assert await one.is_cut_off_from("10.77.0.12"), "the other tenant's, which has the same addresses, is not it"
    assert await one.resolve("guest-13") is None and await twin.resolve("guest-11") is None


async def test_peers_may_come_before_their_network_and_stay_when_it_comes_again(fabric: Fabric) -> None:
    network = make_vxlan(77)
    far = make_port(network, 12)
    await fabric.second.driver.plug(far)
    await fabric.first.driver.keep(peer_of(far, fabric.second))
    for _ in range(2):
        port = await fabric.plug(fabric.first, network, 11)
        guest = await fabric.first.guest(port)
        answering = await fabric.second.guest(far)
        assert await guest.dhcp() is not None and await answering.dhcp() is not None
        assert await guest.reaches("10.77.0.12")
        assert await guest.resolve("guest-12") == "10.77.0.12"
        await fabric.first.unplug_guest(guest)
        await fabric.second.unplug_guest(answering)
        await fabric.first.driver.unplug(port.port_id)
    assert await fabric.first.driver.kept("peer") == {far.port_id}
    await fabric.first.driver.drop("peer", far.port_id)
    assert await fabric.first.leftovers() == []


async def test_a_peer_that_goes_is_not_found_any_more(fabric: Fabric) -> None:
    network = make_vxlan(77)
    one = await fabric.boot(fabric.first, network, 11)
    far = await fabric.plug(fabric.second, network, 12)
    assert await one.finds("10.77.0.12")
    await fabric.first.driver.drop("peer", far.port_id)
    assert await one.finds_nobody_at("10.77.0.12") and await one.resolve("guest-12") is None
    entries = await fabric.first.command("bridge", "fdb", "show", "dev", vxlan_device(network.network_id))
    assert far.mac_address not in entries


async def test_a_guest_that_moves_is_found_where_it_is(fabric: Fabric) -> None:
    """As in a migration: its port is on both hosts for a while, and the last word on the peer may come late."""
    network = make_vxlan(77)
    one = await fabric.boot(fabric.first, network, 11)
    await fabric.plug(fabric.second, network, 13)
    moving = await fabric.plug(fabric.second, network, 12)
    guest = await fabric.second.guest(moving)
    assert await guest.dhcp() is not None and await one.reaches("10.77.0.12")
    await fabric.first.driver.plug(replace(moving, active=False))
    assert await one.reaches("10.77.0.12")
    await fabric.second.unplug_guest(guest)
    await fabric.first.driver.plug(moving)
    arrived = await fabric.first.guest(moving)
    # It renews the lease that the other host gave.
    await arrived.address("10.77.0.12/24")
    assert await one.reaches("10.77.0.12")
    assert await arrived.dhcp() is not None
    # And back again, before anybody has told that it isn't a peer any more.
    await fabric.first.unplug_guest(arrived)
    await fabric.first.driver.unplug(moving.port_id)
    returned = await fabric.second.guest(moving)
    assert await returned.dhcp() is not None
    assert await one.reaches("10.77.0.12")


async def test_the_way_to_a_peer_follows_it(fabric: Fabric) -> None:
    network = make_vxlan(77)
    one = await fabric.boot(fabric.first, network, 11)
    await fabric.boot(fabric.second, network, 12)
    far = next(port for port in await fabric.second.driver.active_ports())
    await fabric.first.driver.keep(peer_of(far, fabric.second, tunnel_address=IPv4Address("192.0.2.9")))
    assert await one.is_cut_off_from("10.77.0.12")
    await fabric.first.driver.keep(peer_of(far, fabric.second))
    assert await one.reaches("10.77.0.12")
    await fabric.first.driver.keep(peer_of(far, fabric.second, addresses=(far.addresses[0] + 50,)))
    assert await one.finds("10.77.0.62") and await one.finds_nobody_at("10.77.0.12")


async def test_a_peer_without_a_tunnel_is_a_fault(fabric: Fabric) -> None:
    network = make_vxlan(77)
    await fabric.plug(fabric.first, network, 11)
    far = make_port(network, 12)
    with pytest.raises(NetworkFault) as refused:
        await fabric.first.driver.keep(peer_of(far, fabric.second, tunnel_address=None))
    assert refused.value.reason == "TUNNEL_ADDRESS_UNKNOWN" and fabric.second.name in refused.value.remedy
    assert set(await fabric.first.driver.heal()) == {("peer", far.port_id)}
    await fabric.first.driver.keep(peer_of(far, fabric.second))
    assert await fabric.first.driver.heal() == {}


async def test_an_underlay_that_carries_too_little_is_said(fabric: Fabric) -> None:
    await fabric.first.command("ip", "link", "set", UNDERLAY, "mtu", "1450")
    with pytest.raises(NetworkFault) as refused:
        await fabric.first.driver.plug(make_port(make_vxlan(77, mtu=1450), 11))
    assert refused.value.reason == "UNDERLAY_MTU_TOO_SMALL" and "1400" in refused.value.remedy


async def test_what_others_meddled_with_is_made_right_and_nothing_else(fabric: Fabric) -> None:
    network = make_vxlan(77)
    one = await fabric.boot(fabric.first, network, 11)
    await fabric.boot(fabric.second, network, 12)
    before = await fabric.first.fingerprint(network)
    [port] = await fabric.first.driver.active_ports()
    assert (await fabric.first.driver.observe(port.port_id)).wired
    device = vxlan_device(network.network_id)
    meddling = [
        ("bridge", "fdb", "del", "fa:16:3e:00:00:0c", "dev", device, "dst", "192.0.2.2", "self"),
        ("bridge", "fdb", "del", "fa:16:3e:00:00:0c", "dev", device, "master"),
        ("ip", "neigh", "del", "10.77.0.12", "dev", network.bridge),
        ("bridge", "fdb", "add", "fa:16:3e:00:00:0b", "dev", device, "dst", "192.0.2.9", "self"),
        ("bridge", "link", "set", "dev", device, "learning", "on", "flood", "on"),
        ("ip", "link", "set", device, "nomaster"),
    ]
    for command in meddling:
        await fabric.first.command(*command)
        assert await fabric.first.driver.heal() == {}
        assert await one.reaches("10.77.0.12"), command
        assert await fabric.first.fingerprint(network) == before, command
    entries = await fabric.first.command("bridge", "fdb", "show", "dev", device)
    assert "192.0.2.9" not in entries
    await fabric.first.command("ip", "link", "del", device)
    assert await fabric.first.driver.heal() == {}
    assert await one.reaches("10.77.0.12")
