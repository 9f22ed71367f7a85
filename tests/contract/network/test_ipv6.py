"""IPv6 on a real host: guests make their addresses of what is advertised, and find DNS and metadata."""

from __future__ import annotations

import http.client
from dataclasses import replace
from functools import partial
from ipaddress import IPv6Network, ip_address
from pathlib import Path
from typing import Any

import pytest

from core.eui64 import LINK_LOCAL, address_of_mac
from core.ids import uuid7
from net_agent.drivers.linux.links import write_sysctl
from net_agent.model import Network, Port, Subnet
from tests.contract.network.guest import Guest
from tests.contract.network.hosts import LinuxHost, make_network, make_port
from tests.contract.network.test_linux_guest import metadata_host
from tests.contract.network.waiting import PATIENCE_S, until

pytestmark = pytest.mark.root

PREFIX = IPv6Network("fd00:77::/64")


def dual_stack(**changes: Any) -> Network:
    network = make_network()
    six = Subnet(str(uuid7()), PREFIX, gateway_ip=PREFIX[1], dhcp_ip=PREFIX[2])
    return replace(network, subnets=(*network.subnets, replace(six, **changes)))


def port_on(network: Network, number: int) -> Port:
    port = make_port(network, number)
    return replace(port, addresses=(*port.addresses, address_of_mac(PREFIX, port.mac_address)))


async def speak_ipv6(guest: Guest) -> None:
    """As a guest's system does by default, but that it asks for routers at once (RFC 4861, 6.3.7: within a second)."""
    for name, value in (("router_solicitation_delay", "0"), ("disable_ipv6", "0")):
        await guest.inside(partial(write_sysctl, f"net/ipv6/conf/eth0/{name}", value))


async def has(guest: Guest, address: str) -> bool:
    """It has made itself the address, and found that nobody else has it."""
    shown = (await guest.run("ip", "-6", "addr", "show", "dev", "eth0", "-tentative")).stdout
    return f"{address}/64" in shown


async def test_a_guest_makes_its_address_and_no_default_route(linux: LinuxHost) -> None:
    port = port_on(dual_stack(), 11)
    await linux.driver.plug(port)
    assert (await linux.driver.observe(port.port_id)).wired
    guest = await linux.guest(port)
    await speak_ipv6(guest)
    address = str(port.addresses[1])
    assert address == "fd00:77::f816:3eff:fe00:b"
    await until(lambda: has(guest, address))
    assert "default" not in (await guest.run("ip", "-6", "route")).stdout
    assert (await guest.run("cat", "/proc/sys/net/ipv6/conf/eth0/mtu")).stdout == "1450\n"
    assert await guest.reaches("fd00:77::2")

    async def seen() -> bool:
        return any(found.ip_address == address for found in await linux.driver.neighbours())

    await until(seen)
    assert not any(ip_address(found.ip_address).is_link_local for found in await linux.driver.neighbours())


async def test_its_neighbours_are_reached_and_spoofs_are_not_let_through(linux: LinuxHost) -> None:
    network = dual_stack()
    first, second = port_on(network, 11), port_on(network, 12)
    for port in (first, second):
        await linux.driver.plug(port)
    one, other = await linux.guest(first), await linux.guest(second)
    for guest, port in ((one, first), (other, second)):
        await speak_ipv6(guest)
        await until(partial(has, guest, str(port.addresses[1])))
    assert await one.reaches(str(second.addresses[1]))
    await one.run("ip", "addr", "flush", "dev", "eth0", "scope", "global")
    await one.run("ip", "addr", "add", "fd00:77::bad/64", "dev", "eth0", "nodad")
    assert await one.is_cut_off_from(str(second.addresses[1]))


async def test_nothing_is_advertised_where_addresses_are_not_made_so(linux: LinuxHost) -> None:
    port = port_on(dual_stack(no_dhcp=True), 11)
    await linux.driver.plug(port)
    commands = (await linux.command("ps", "-eo", "args")).splitlines()
    assert not any("--enable-ra" in line and port.network.network_id in line for line in commands)


async def test_metadata_answers_on_the_link(tmp_path: Path) -> None:
    def ask() -> int:
        connection = http.client.HTTPConnection("fe80::a9fe:a9fe%eth0", 80, timeout=PATIENCE_S)
        try:
            connection.request("GET", "/openstack")
            return connection.getresponse().status
        finally:
            connection.close()

    async with metadata_host(tmp_path) as (linux, service):
        port = port_on(dual_stack(), 11)
        await linux.driver.plug(port)
        guest = await linux.guest(port)
        await speak_ipv6(guest)

        async def answered() -> bool:
            try:
                return await guest.inside(ask) == 200
            except OSError:
                return False

        await until(answered)
        told = {name.lower(): value for name, value in service.asked[-1].headers.items()}
        assert told["x-cirra-address"] == str(address_of_mac(LINK_LOCAL, port.mac_address))
