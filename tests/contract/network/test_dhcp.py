"""DHCP where it is hard: on a provider's segment, after a migration, after a restart, with many guests."""

from __future__ import annotations

import subprocess
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

import psutil
import pytest

from core.ids import dhcp_namespace
from net_agent.drivers.linux.dhcp_link import service_mac_address
from net_agent.drivers.linux.dnsmasq import Dnsmasq
from net_agent.drivers.linux.dnsmasq_config import NetworkPaths
from net_agent.model import Network
from tests.contract.network.dhcp_client import ACK, renewal
from tests.contract.network.fabric import Fabric, make_vxlan, two_hosts
from tests.contract.network.hosts import LinuxHost, make_network, make_port
from tests.contract.network.wire import Capture

pytestmark = pytest.mark.root

SERVER = IPv4Address("10.77.0.2")


@pytest.fixture
async def fabric(tmp_path: Path) -> AsyncIterator[Fabric]:
    async with two_hosts(tmp_path) as made:
        yield made


def provider_network() -> Network:
    """A flat one, whose guests have a router and a DNS server beyond the uplink."""
    network = make_network(physical_network="physnet1")
    return replace(network, subnets=(replace(network.subnets[0], dns_nameservers=(IPv4Address("10.77.0.1"),)),))


async def test_services_are_never_seen_on_an_uplink(linux: LinuxHost) -> None:
    """Neither their MAC address nor their IP address, though guests and the office ask for them."""
    network = provider_network()
    port = make_port(network, 11)
    await linux.driver.plug(port)
    await linux.command("ip", "addr", "add", "10.77.0.1/24", "dev", "provider1")
    await linux.command("ip", "link", "set", "provider1", "up")
    guest = await linux.guest(port)
    capture = await linux.namespaces.on_host(lambda: Capture("provider1"))
    told = await guest.dhcp()
    assert told is not None and told["dns"] == "10.77.0.2 10.77.0.1"
    assert await guest.reaches("10.77.0.2") and await guest.reaches("10.77.0.1")
    await guest.resolve("example.org")
    with pytest.raises(subprocess.CalledProcessError):
        await linux.command("busybox", "arping", "-c", "1", "-w", "1", "-I", "provider1", "10.77.0.2")
    frames = list(capture.frames())
    capture.close()
    assert any(frame.outgoing and frame.content[38:42] == SERVER.packed for frame in frames), "it was asked for"
    sources = {frame.source for frame in frames if not frame.outgoing}
    assert port.mac_address in sources and service_mac_address(network.network_id) not in sources
    address = SERVER.packed
    claims = [frame for frame in frames if not frame.outgoing and frame.content[28:32] == address]
    assert not claims, "nobody says on the segment that the address is theirs"


async def test_an_unknown_name_sends_the_guest_to_the_next_server(linux: LinuxHost) -> None:
    port = make_port(provider_network(), 11)
    await linux.driver.plug(port)
    guest = await linux.guest(port)
    assert await guest.dhcp() is not None
    asked = await guest.run("busybox", "nslookup", "-type=a", "example.org", "10.77.0.2")
    assert "REFUSED" in asked.stdout + asked.stderr
    assert await guest.resolve("guest-11") == "10.77.0.11"


async def test_a_lease_is_renewed_on_the_host_that_the_guest_came_to(fabric: Fabric) -> None:
    network = make_vxlan(77)
    port = make_port(network, 11)
    await fabric.first.driver.plug(port)
    guest = await fabric.first.guest(port)
    assert await guest.dhcp() is not None
    await fabric.second.driver.plug(replace(port, active=False))
    await fabric.first.unplug_guest(guest)
    await fabric.first.driver.unplug(port.port_id)
    await fabric.second.driver.plug(port)
    arrived = await fabric.second.guest(port)
    await arrived.address("10.77.0.11/24")
    assert await arrived.inside(partial(renewal, port.mac_address, port.addresses[0], SERVER)) == ACK
    assert [lease.ip_address for lease in await fabric.second.driver.leases()] == ["10.77.0.11"]


async def test_a_guest_gets_the_address_that_its_port_has_now(linux: LinuxHost) -> None:
    """Which is another since it asked first; the one that it had is its next port's at once."""
    network = make_network()
    port, other = make_port(network, 11), make_port(network, 12)
    await linux.driver.plug(port)
    guest = await linux.guest(port)
    assert await guest.dhcp() is not None
    await linux.driver.plug(replace(port, addresses=(IPv4Address("10.77.0.99"),)))
    assert list(await linux.driver.leases()) == [], "no lease is left on what it has no more"
    told = await guest.dhcp()
    assert told is not None and told["ip"] == "10.77.0.99"
    assert await guest.resolve("guest-11") == "10.77.0.99"
    await linux.driver.plug(replace(other, addresses=port.addresses))
    next_one = await linux.guest(other)
    told = await next_one.dhcp()
    assert told is not None and told["ip"] == "10.77.0.11"
    assert await guest.reaches("10.77.0.11")


@pytest.mark.parametrize("leases_kept", [True, False])
async def test_a_lease_is_renewed_after_a_restart_of_dnsmasq(linux: LinuxHost, leases_kept: bool) -> None:
    port = make_port(make_network(), 11)
    await linux.driver.plug(port)
    guest = await linux.guest(port)
    assert await guest.dhcp() is not None
    await linux.kill(port.network, "dnsmasq")
    if not leases_kept:
        (linux.folder / "networks" / port.network.network_id / "leases").unlink()
    assert await linux.driver.heal() == {}
    assert await guest.inside(partial(renewal, port.mac_address, port.addresses[0], SERVER)) == ACK
    assert [lease.ip_address for lease in await linux.driver.leases()] == ["10.77.0.11"]


async def test_a_network_with_six_hundred_guests_is_served(linux: LinuxHost) -> None:
    """dnsmasq reads all of them at once, and nobody notices: in seconds of CPU, ours and its own."""
    network = make_network("10.77.0.0/22")
    port = make_port(network, 11)
    await linux.driver.plug(port)
    first = network.subnets[0].cidr[16]
    others = [
        make_port(
            network,
            0,
            mac_address=f"fa:16:3e:01:{number >> 8:02x}:{number & 255:02x}",
            hostname=f"crowd-{number}",
            addresses=(first + number,),
        )
        for number in range(600)
    ]
    paths = NetworkPaths(linux.folder / "networks" / network.network_id)
    dnsmasq = Dnsmasq(network, paths)
    before_s = time.process_time()
    await linux.namespaces.inside(dhcp_namespace(network.network_id), lambda: dnsmasq.ensure([port, *others], []))
    assert time.process_time() - before_s < 2.0
    guest = await linux.guest(port)
    told = await guest.dhcp()
    assert told is not None and told["ip"] == "10.77.0.11" and told["mask"] == "22"
    assert await guest.resolve("crowd-599") == str(first + 599)
    spent = psutil.Process(linux.pids(network)["dnsmasq"]).cpu_times()
    assert spent.user + spent.system < 2.0
