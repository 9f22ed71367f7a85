"""VLAN networks: on a host whose kernel has VLANs, between two of them, and on one whose kernel has none.

Where this kernel has none, `make e2e NAME=kernel` runs this file in a guest whose kernel has them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from net_agent.drivers.base import NetworkFault
from net_agent.drivers.linux.dhcp_link import service_mac_address
from net_agent.drivers.linux.vlan import can_vlan, vlan_device
from net_agent.model import Network, NetworkKind
from tests.contract.network.fabric import Fabric, two_hosts
from tests.contract.network.hosts import PHYSICAL_NETWORKS, LinuxHost, make_network, make_port
from tests.contract.network.wire import Capture, Frame

pytestmark = pytest.mark.root

UPLINK = PHYSICAL_NETWORKS["physnet1"]


def make_vlan(number: int) -> Network:
    return make_network(kind=NetworkKind.VLAN, segmentation_id=number, physical_network="physnet1")


@pytest.fixture
async def trunk(tmp_path: Path) -> AsyncIterator[Fabric]:
    """Two hosts whose uplinks are the ends of one cable."""
    async with two_hosts(tmp_path) as fabric:
        if not await can_vlan(fabric.first.namespaces):
            pytest.skip("this kernel has no VLANs: `make e2e NAME=kernel` has one that does")
        await fabric.second.command("ip", "link", "del", UPLINK)
        await fabric.first.command("ip", "link", "set", "provider1", "netns", str(fabric.second.namespace))
        await fabric.second.command("ip", "link", "set", "provider1", "name", UPLINK)
        for host in (fabric.first, fabric.second):
            await host.command("ip", "link", "set", UPLINK, "up")
        yield fabric


async def captured(host: LinuxHost) -> Capture:
    return await host.namespaces.on_host(lambda: Capture(UPLINK))


def sent(capture: Capture) -> list[Frame]:
    return [frame for frame in capture.frames() if frame.outgoing]


async def test_a_vlan_is_a_subinterface_or_is_said_to_be_impossible(linux: LinuxHost) -> None:
    first, second = make_port(make_vlan(7), 11), make_port(make_vlan(8), 11)
    if not await can_vlan(linux.namespaces):
        with pytest.raises(NetworkFault) as refused:
            await linux.driver.plug(first)
        assert refused.value.reason == "VLAN_UNSUPPORTED" and refused.value.reschedule
        assert "8021q" in refused.value.remedy
        assert not (await linux.driver.observe(first.port_id)).wired
    else:
        for port in (first, second):
            assert (await linux.driver.plug(port)).wired
        details = await linux.command("ip", "-d", "link", "show", vlan_device(first.network.network_id))
        assert "vlan protocol 802.1Q id 7" in details and f"master {first.network.bridge}" in details
    for port in (first, second):
        await linux.driver.unplug(port.port_id)
    assert await linux.leftovers() == []


async def test_the_probe_leaves_nothing(linux: LinuxHost) -> None:
    before = await linux.command("ip", "-o", "link")
    assert await can_vlan(linux.namespaces) == await can_vlan(linux.namespaces)
    assert await linux.command("ip", "-o", "link") == before
    assert not [path for path in linux.namespaces.path("x").parent.glob("cirra-probe-*")]


async def test_guests_of_two_hosts_meet_in_frames_with_the_tag_of_their_vlan(trunk: Fabric) -> None:
    network = make_vlan(7)
    capture = await captured(trunk.first)
    one = await trunk.boot(trunk.first, network, 11)
    two = await trunk.boot(trunk.second, network, 12)
    assert await one.reaches("10.77.0.12") and await two.reaches("10.77.0.11")
    frames = [frame for frame in sent(capture) if frame.source == "fa:16:3e:00:00:0b"]
    capture.close()
    assert frames and {frame.vlan for frame in frames} == {7}


async def test_vlans_of_one_uplink_are_apart(trunk: Fabric) -> None:
    mine, other = make_vlan(7), make_vlan(8)
    one = await trunk.boot(trunk.first, mine, 11)
    two = await trunk.boot(trunk.second, mine, 12)
    stranger = await trunk.boot(trunk.second, other, 13)
    twin = await trunk.boot(trunk.first, other, 12)
    assert await one.reaches("10.77.0.12") and await stranger.reaches("10.77.0.12")
    assert await one.is_cut_off_from("10.77.0.13") and await stranger.is_cut_off_from("10.77.0.11")
    await trunk.second.unplug_guest(two)
    assert await one.is_cut_off_from("10.77.0.12"), "the other VLAN's, which has the same addresses, is not it"
    assert await twin.reaches("10.77.0.13")


async def test_services_of_a_vlan_are_not_seen_on_its_uplink(trunk: Fabric) -> None:
    """They have the same addresses on every host. (Bridges speak there: of the groups that they listen to.)"""
    network = make_vlan(7)
    captures = [await captured(host) for host in (trunk.first, trunk.second)]
    guests = [await trunk.boot(host, network, 11 + number) for number, host in enumerate((trunk.first, trunk.second))]
    for guest in guests:
        assert await guest.reaches("10.77.0.2")
    assert await guests[0].reaches("10.77.0.12")
    found = {frame.source for capture in captures for frame in sent(capture) if frame.vlan == 7}
    for capture in captures:
        capture.close()
    assert found >= {"fa:16:3e:00:00:0b", "fa:16:3e:00:00:0c"}
    assert service_mac_address(network.network_id) not in found


async def test_a_guest_sends_no_tags_of_its_own(trunk: Fabric) -> None:
    """Else it would choose its VLAN where a switch takes two tags (IEEE 802.1ad)."""
    network = make_vlan(7)
    one = await trunk.boot(trunk.first, network, 11)
    await trunk.boot(trunk.second, network, 12)
    await one.run("ip", "link", "add", "link", "eth0", "name", "tagged", "type", "vlan", "id", "8")
    await one.run("ip", "link", "set", "tagged", "up")
    assert (await one.run("ip", "addr", "add", "10.78.0.11/24", "dev", "tagged")).returncode == 0
    capture = await captured(trunk.first)
    assert await one.is_cut_off_from("10.78.0.12")
    assert await one.reaches("10.77.0.12")
    frames = sent(capture)
    capture.close()
    assert frames and all(frame.content[12:14] != b"\x81\x00" for frame in frames)
