"""A VLAN network, on a host whose kernel has VLANs, and on one whose kernel has none."""

from __future__ import annotations

import pytest

from net_agent.drivers.base import NetworkFault
from net_agent.drivers.linux.vlan import can_vlan, vlan_device
from net_agent.model import Network, NetworkKind
from tests.contract.network.hosts import LinuxHost, make_network, make_port

pytestmark = pytest.mark.root


def make_vlan(number: int) -> Network:
    return make_network(kind=NetworkKind.VLAN, segmentation_id=number, physical_network="physnet1")


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
