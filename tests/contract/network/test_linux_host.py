"""A real host, as its operator finds it: repair, restart, foreign things, uplinks, what is left in the end."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from core.ids import dhcp_namespace, uuid7
from net_agent.drivers.base import ABSENT, NetworkFault
from net_agent.drivers.linux.dhcp_link import outer_device
from net_agent.drivers.linux.files import read_text
from net_agent.drivers.linux.namespace import Namespaces
from net_agent.drivers.linux.process import command_line
from net_agent.model import Port
from net_agent.teardown import teardown
from tests.contract.network.hosts import LinuxHost, make_network, make_port
from tests.contract.network.waiting import PATIENCE_S, until

pytestmark = pytest.mark.root


BREAKAGES: dict[str, Callable[[LinuxHost, Port], Awaitable[object]]] = {
    "tap down": lambda linux, port: linux.command("ip", "link", "set", port.device, "down"),
    "tap off its bridge": lambda linux, port: linux.command("ip", "link", "set", port.device, "nomaster"),
    "tap gone": lambda linux, port: linux.command("ip", "link", "del", port.device),
    "bridge down": lambda linux, port: linux.command("ip", "link", "set", port.network.bridge, "down"),
    "bridge gone": lambda linux, port: linux.command("ip", "link", "del", port.network.bridge),
    "veth gone": lambda linux, port: linux.command("ip", "link", "del", outer_device(port.network.network_id)),
    "veth off its bridge": lambda linux, port: linux.command(
        "ip", "link", "set", outer_device(port.network.network_id), "nomaster"
    ),
    "addresses gone": lambda linux, port: linux.command(
        "ip", "addr", "flush", "scope", "global", namespace=dhcp_namespace(port.network.network_id)
    ),
    "dnsmasq dead": lambda linux, port: linux.kill(port.network, "dnsmasq"),
    "proxy dead": lambda linux, port: linux.kill(port.network, "metadata-proxy"),
    "table gone": lambda linux, port: linux.command("nft", "delete", "table", "bridge", "cirra"),
    "ruleset flushed": lambda linux, port: linux.command("nft", "flush", "ruleset"),
    "chain flushed": lambda linux, port: linux.command("nft", "flush", "chain", "bridge", "cirra", port.device),
    "tap not in the map": lambda linux, port: linux.command("nft", "flush", "map", "bridge", "cirra", "taps"),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
async def test_what_breaks_is_seen_and_repaired(linux: LinuxHost, breakage: str) -> None:
    port = make_port(make_network(), 11)
    await linux.driver.plug(port)
    await BREAKAGES[breakage](linux, port)
    state = await linux.driver.observe(port.port_id)
    assert not state.wired and state.present and state.lacking
    await linux.driver.plug(port)
    assert (await linux.driver.observe(port.port_id)).wired
    guest = await linux.guest(port)
    assert await guest.dhcp() is not None


async def test_ports_of_one_network_that_come_while_others_do_are_each_seen_wired(linux: LinuxHost) -> None:
    """What one that came after it still lacks is not lacking to a port."""
    network = make_network()

    async def plug(number: int) -> tuple[str, ...]:
        await asyncio.sleep(number / 40)
        return (await linux.driver.plug(make_port(network, number, instance_id=str(uuid7())))).lacking

    lacking = await asyncio.gather(*(plug(number) for number in range(11, 61)))
    assert not any(lacking), lacking


async def test_repair_of_one_port_leaves_the_rest_alone(linux: LinuxHost) -> None:
    network = make_network()
    first, second = make_port(network, 11), make_port(network, 12)
    for port in (first, second):
        await linux.driver.plug(port)
    before = linux.pids(network)
    await linux.command("ip", "link", "del", first.device)
    assert (await linux.driver.observe(second.port_id)).wired
    await linux.driver.plug(first)
    assert linux.pids(network) == before


async def test_a_host_with_a_new_identity_gets_new_proxies_and_keeps_its_dhcp(linux: LinuxHost) -> None:
    port = make_port(make_network(), 11)
    await linux.driver.plug(port)
    before = linux.pids(port.network)
    linux.identity.signing_key.write_bytes(b"n" * 32)
    await linux.driver.plug(port)
    after = linux.pids(port.network)
    assert after["metadata-proxy"] != before["metadata-proxy"] and after["dnsmasq"] == before["dnsmasq"]
    assert (await linux.driver.observe(port.port_id)).wired


async def test_processes_are_found_again_without_their_pid_files(linux: LinuxHost) -> None:
    port = make_port(make_network(), 11)
    await linux.driver.plug(port)
    before = linux.pids(port.network)
    folder = linux.folder / "networks" / port.network.network_id
    for name in before:
        (folder / f"{name}.pid").unlink()
    await linux.restart()
    await linux.driver.plug(port)
    assert {line[0] for line in linux.processes()} == {command_line(pid)[0] for pid in before.values()}
    assert len(linux.processes()) == 2
    await linux.driver.unplug(port.port_id)
    assert await linux.leftovers() == []


async def test_a_pid_file_that_names_a_foreign_process_harms_nobody(linux: LinuxHost) -> None:
    port = make_port(make_network(), 11)
    await linux.driver.plug(port)
    await linux.kill(port.network, "dnsmasq")
    bystander = await asyncio.create_subprocess_exec("sleep", "60")
    try:
        (linux.folder / "networks" / port.network.network_id / "dnsmasq.pid").write_text(str(bystander.pid))
        await linux.driver.plug(port)
        await linux.driver.unplug(port.port_id)
        assert bystander.returncode is None and command_line(bystander.pid) == ("sleep", "60")
    finally:
        bystander.kill()
        await bystander.wait()
    assert await linux.leftovers() == []


async def test_what_is_foreign_stays(linux: LinuxHost) -> None:
    await linux.command("ip", "link", "add", "brq-office", "type", "bridge")
    await linux.command("ip", "tuntap", "add", "tap-office", "mode", "tap")
    await linux.command("ip", "link", "set", "tap-office", "master", "brq-office")
    await linux.command("nft", "add", "table", "bridge", "office")
    port = make_port(make_network(), 11)
    await linux.driver.plug(port)
    await linux.driver.unplug(port.port_id)
    await linux.driver.plug(port)
    await teardown(linux.folder, Namespaces(host=linux.namespaces.path(linux.name)))
    assert await linux.leftovers() == ["brq-office", "tap-office", "table bridge office"]
    assert await linux.driver.known_ports() - {port.port_id} == frozenset()


@pytest.mark.parametrize("kind", ["bridge", "tap"])
async def test_a_name_that_is_taken_is_said(linux: LinuxHost, kind: str) -> None:
    port = make_port(make_network(), 11)
    name = port.network.bridge if kind == "bridge" else port.device
    await linux.command("ip", "link", "add", name, "type", "vxlan", "id", "77", "dstport", "4789")
    with pytest.raises(NetworkFault) as refused:
        await linux.driver.plug(port)
    assert refused.value.reason == "DEVICE_NAME_TAKEN" and name in refused.value.remedy
    await linux.driver.unplug(port.port_id)
    assert await linux.leftovers() == [name]


# ---- uplinks


async def test_an_uplink_joins_the_bridge_and_is_given_back(linux: LinuxHost) -> None:
    port = make_port(make_network(physical_network="physnet1", mtu=1500), 11)
    await linux.driver.plug(port)
    assert f"master {port.network.bridge}" in await linux.command("ip", "link", "show", "uplink1")
    assert (await linux.driver.observe(port.port_id)).wired
    await linux.command("ip", "link", "set", "uplink1", "nomaster")
    assert (await linux.driver.observe(port.port_id)).lacking == ("uplink1 is not up on the bridge",)
    await linux.driver.plug(port)
    await linux.driver.unplug(port.port_id)
    assert "master" not in await linux.command("ip", "link", "show", "uplink1")
    assert await linux.leftovers() == []


async def test_a_guest_reaches_the_providers_segment(linux: LinuxHost) -> None:
    port = make_port(make_network(physical_network="physnet1"), 11)
    await linux.driver.plug(port)
    guest = await linux.guest(port)
    assert await guest.dhcp() is not None
    await linux.command("ip", "addr", "add", "10.77.0.1/24", "dev", "provider1")
    await linux.command("ip", "link", "set", "provider1", "up")
    assert await guest.reaches("10.77.0.1")


async def test_clients_beyond_an_uplink_are_not_answered(linux: LinuxHost) -> None:
    """Not even one that has a known guest's MAC address."""
    port = make_port(make_network(physical_network="physnet1"), 11)
    await linux.driver.plug(port)
    await linux.command("ip", "link", "set", "provider1", "address", port.mac_address, "up")
    script = linux.folder / "silent.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    ask = ["busybox", "udhcpc", "-f", "-q", "-n", "-T", "1", "-i", "provider1", "-s", str(script), "-t"]
    with pytest.raises(subprocess.CalledProcessError):
        await linux.command(*ask, "1")
    await linux.command("nft", "flush", "set", "bridge", "cirra", "uplinks")
    await linux.command(*ask, f"{PATIENCE_S:.0f}")


@pytest.mark.parametrize("address", ["192.0.2.1/24", "2001:db8::1/64"])
async def test_an_interface_that_the_host_needs_is_not_taken(linux: LinuxHost, address: str) -> None:
    await linux.command("ip", "addr", "add", address, "dev", "uplink1")
    port = make_port(make_network(physical_network="physnet1"), 11)
    with pytest.raises(NetworkFault) as refused:
        await linux.driver.plug(port)
    assert refused.value.reason == "UPLINK_IN_USE" and refused.value.reschedule
    assert address in await linux.command("ip", "addr", "show", "uplink1")


async def test_an_uplink_that_was_up_before_is_taken(linux: LinuxHost) -> None:
    """With the link-local address that the kernel gives whatever is up."""
    await linux.command("ip", "link", "set", "provider1", "up")
    await linux.command("ip", "link", "set", "uplink1", "up")
    await until(lambda: _has_link_local(linux, "uplink1"))
    port = make_port(make_network(physical_network="physnet1"), 11)
    await linux.driver.plug(port)
    assert (await linux.driver.observe(port.port_id)).wired


async def _has_link_local(linux: LinuxHost, device: str) -> bool:
    return "fe80::" in await linux.command("ip", "-6", "addr", "show", device)


@pytest.mark.parametrize(
    ("reason", "prepare", "mtu"),
    [
        ("UPLINK_MISSING", ["ip", "link", "del", "uplink1"], 1450),
        ("UPLINK_MTU_TOO_SMALL", ["ip", "link", "set", "uplink1", "mtu", "1400"], 1450),
    ],
)
async def test_an_unfit_uplink_is_refused(linux: LinuxHost, reason: str, prepare: list[str], mtu: int) -> None:
    await linux.command(*prepare)
    with pytest.raises(NetworkFault) as refused:
        await linux.driver.plug(make_port(make_network(physical_network="physnet1", mtu=mtu), 11))
    assert refused.value.reason == reason and refused.value.remedy


async def test_two_networks_do_not_share_an_uplink(linux: LinuxHost) -> None:
    first, second = (make_port(make_network(physical_network="physnet1"), 11) for _ in range(2))
    await linux.driver.plug(first)
    with pytest.raises(NetworkFault) as refused:
        await linux.driver.plug(second)
    assert refused.value.reason == "UPLINK_TAKEN"
    assert (await linux.driver.observe(first.port_id)).wired


# ---- the end


async def test_teardown_takes_all_that_cirra_made(linux: LinuxHost) -> None:
    networks = [make_network(f"10.{number}.0.0/24") for number in (81, 82)]
    ports = [make_port(network, number) for number in (11, 12) for network in networks]
    for port in ports:
        await linux.driver.plug(port)
    for _ in range(2):
        await teardown(linux.folder, Namespaces(host=linux.namespaces.path(linux.name)))
        assert await linux.leftovers() == []


async def test_a_host_that_lost_its_records_still_removes_its_ports(linux: LinuxHost) -> None:
    port = make_port(make_network(), 11)
    await linux.driver.plug(port)
    await linux.restart(between=linux.lose_records)
    assert await linux.driver.known_ports() == {port.port_id}
    assert (await linux.driver.observe(port.port_id)).present
    await linux.driver.unplug(port.port_id)
    assert await linux.driver.observe(port.port_id) == ABSENT
    assert await linux.leftovers() == []


async def test_a_network_of_none_of_its_ports_is_told(linux: LinuxHost) -> None:
    port = make_port(make_network(), 11)
    await linux.driver.plug(port)
    assert await linux.driver.portless_networks() == {}
    # As after a crash in a removal, or a restore of the host's disk: the port is forgotten, its network stands.
    await linux.restart(between=linux.lose_records)
    assert await linux.driver.portless_networks() == {}, "its tap tells that the port is here"
    await linux.command("ip", "link", "del", port.device)
    [(network_id, parts)] = (await linux.driver.portless_networks()).items()
    assert network_id == port.network.network_id
    assert parts[0] == f"bridge {port.network.bridge}"
    assert {part.partition("(")[2] for part in parts[1:]} == {"dnsmasq)", "python)"}
    await linux.driver.plug(port)
    assert await linux.driver.portless_networks() == {}
    await linux.driver.unplug(port.port_id)
    assert await linux.leftovers() == []


async def test_half_made_things_of_a_crash_are_completed_and_removed(linux: LinuxHost) -> None:
    port = make_port(make_network(), 11)
    await linux.command("ip", "link", "add", port.network.bridge, "type", "bridge")
    await linux.command("ip", "tuntap", "add", port.device, "mode", "tap")
    linux.namespaces.path(dhcp_namespace(port.network.network_id)).touch()
    await linux.driver.plug(port)
    assert (await linux.driver.observe(port.port_id)).wired
    await linux.driver.unplug(port.port_id)
    assert await linux.leftovers() == []


# ---- the hypervisor


async def test_qemu_opens_the_tap_as_it_is(linux: LinuxHost) -> None:
    port = make_port(make_network(), 11)
    await linux.driver.plug(port)
    await until(partial(_is_connected, linux, port, False))
    before = await linux.command("ip", "-o", "link", "show", port.device)
    monitor = linux.folder / "qemu.pid"
    qemu = [
        "qemu-system-x86_64", "-nodefaults", "-display", "none", "-machine", "pc,accel=tcg", "-m", "32", "-S",
        "-netdev", f"tap,id=n,ifname={port.device},script=no,downscript=no,vhost=off",
        "-device", f"virtio-net-pci,netdev=n,mac={port.mac_address}",
        "-daemonize", "-pidfile", str(monitor),
    ]  # fmt: skip
    await linux.command(*qemu)
    try:
        await until(partial(_is_connected, linux, port, True))
        running = await linux.command("ip", "-d", "-o", "link", "show", port.device)
        assert "vnet_hdr on" in running and "multi_queue" not in running
        assert before.split(":")[0] == running.split(":")[0]
        assert (await linux.driver.observe(port.port_id)).wired
    finally:
        os.kill(int(read_text(monitor)), 9)
    await until(partial(_is_connected, linux, port, False))
    assert (await linux.driver.observe(port.port_id)).wired


async def _is_connected(linux: LinuxHost, port: Port, wanted: bool) -> bool:
    """Whether somebody has opened the tap; the kernel shows a carrier's change a moment after it."""
    return ("NO-CARRIER" not in await linux.command("ip", "-o", "link", "show", port.device)) is wanted
