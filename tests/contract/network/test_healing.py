"""A host on which things were broken heals by itself, without touching what works."""

from __future__ import annotations

import time

import pytest

from core.ids import dhcp_namespace
from net_agent.drivers.linux.dhcp_link import outer_device
from net_agent.drivers.linux.vxlan import vxlan_device
from net_agent.settings import NetAgentSettings
from tests.contract.network.fabric import make_peer, make_vxlan
from tests.contract.network.hosts import LinuxHost, make_port
from tests.contract.network.test_linux_host import BREAKAGES

pytestmark = pytest.mark.root

# All is back within so many seconds: of them, the timer takes those from one round to the next.
BACK_S, INTERVAL_S = 10.0, NetAgentSettings.model_fields["heal_interval_s"].default
# On a machine so busy that already the making of it took long, a round takes longer.
TIMES_ITS_MAKING = 4.0


@pytest.mark.parametrize("breakage", BREAKAGES)
async def test_what_breaks_comes_back_and_another_network_is_not_touched(linux: LinuxHost, breakage: str) -> None:
    network, other = make_vxlan(77), make_vxlan(78, "10.78.0.0/24")
    port, bystander = make_port(network, 11), make_port(other, 11)
    began = time.monotonic()
    await linux.driver.plug(port)
    made_s = time.monotonic() - began
    await linux.driver.plug(bystander)
    await linux.driver.keep(make_peer(network, 12))
    guest = await linux.guest(bystander)
    assert await guest.dhcp() is not None
    untouched = linux.pids(other)
    await BREAKAGES[breakage](linux, port)
    assert not (await linux.driver.observe(port.port_id)).wired
    began = time.monotonic()
    assert await linux.driver.heal() == {}
    assert time.monotonic() - began < max(BACK_S - INTERVAL_S, TIMES_ITS_MAKING * made_s)
    for each in (port, bystander):
        assert (await linux.driver.observe(each.port_id)).wired
    assert linux.pids(other) == untouched and await guest.reaches("10.78.0.2")
    healed = await linux.guest(port)
    assert await healed.dhcp() is not None
    assert await healed.finds("10.77.0.12"), "and the peers are known"


async def test_all_at_once(linux: LinuxHost) -> None:
    """As after somebody has tidied up: nothing of a network is left but its guests."""
    network = make_vxlan(77)
    ports = [make_port(network, number) for number in (11, 12, 13)]
    for port in ports:
        await linux.driver.plug(port)
    await linux.kill(network, "dnsmasq")
    await linux.kill(network, "metadata-proxy")
    for device in (vxlan_device(network.network_id), outer_device(network.network_id), network.bridge):
        await linux.command("ip", "link", "del", device)
    await linux.namespaces.delete(dhcp_namespace(network.network_id))
    await linux.command("nft", "flush", "ruleset")
    assert await linux.driver.heal() == {}
    for port in ports:
        assert (await linux.driver.observe(port.port_id)).wired
    before = await linux.fingerprint(network)
    assert await linux.driver.heal() == {}
    assert await linux.fingerprint(network) == before


async def test_what_could_not_be_removed_goes_later(linux: LinuxHost) -> None:
    """A port that is no longer wanted is not wired again, whatever else heals."""
    network = make_vxlan(77)
    gone, stays = make_port(network, 11), make_port(network, 12)
    for port in (gone, stays):
        await linux.driver.plug(port)
    await linux.driver.unplug(gone.port_id)
    await linux.command("nft", "flush", "ruleset")
    await linux.command("ip", "link", "del", network.bridge)
    assert await linux.driver.heal() == {}
    assert (await linux.driver.observe(stays.port_id)).wired
    assert await linux.driver.known_ports() == {stays.port_id}
    assert gone.device not in await linux.command("ip", "-o", "link")


async def test_a_host_that_has_booted_is_wired_again_from_its_disk(linux: LinuxHost) -> None:
    """All of the kernel's state is gone; nobody has told anything anew."""
    network = make_vxlan(77)
    port = make_port(network, 11)
    await linux.driver.plug(port)
    far = make_peer(network, 12)
    await linux.driver.keep(far)

    await linux.driver.close()
    for name in ("dnsmasq", "metadata-proxy"):
        await linux.kill(network, name)
    await linux.command("nft", "flush", "ruleset")
    devices = (port.device, vxlan_device(network.network_id), outer_device(network.network_id), network.bridge)
    for device in devices:
        await linux.command("ip", "link", "del", device)
    await linux.namespaces.delete(dhcp_namespace(network.network_id))

    linux.driver = linux.new_driver()
    assert await linux.driver.heal() == {}
    assert (await linux.driver.observe(port.port_id)).wired
    guest = await linux.guest(port)
    assert await guest.dhcp() is not None
    assert await guest.finds("10.77.0.12") and await guest.resolve("guest-12") == "10.77.0.12"
