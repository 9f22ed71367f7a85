from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

from core.ids import tap_device, uuid7
from net_agent.drivers.simulated import SimulatedDriver
from tests.unit.net_agent.samples import NETWORK, SUBNET, make_port


async def test_a_boot_leaves_nothing_plugged(tmp_path: Path) -> None:
    port = make_port(11)
    await SimulatedDriver(tmp_path, boot_id="boot-1").plug(port)
    assert await SimulatedDriver(tmp_path, boot_id="boot-1").active_ports() == [port]
    assert await SimulatedDriver(tmp_path, boot_id="boot-2").known_ports() == frozenset()
    assert await SimulatedDriver(tmp_path, boot_id="boot-1").known_ports() == frozenset()


async def test_six_hundred_guests_on_one_flat_network(tmp_path: Path) -> None:
    wide = IPv4Network("10.0.0.0/22")
    network = replace(NETWORK, subnets=(replace(SUBNET, cidr=wide),))
    ids = [str(uuid7()) for _ in range(600)]
    ports = [
        make_port(11, port_id=port_id, device=tap_device(port_id), addresses=(wide[16 + number],), network=network)
        for number, port_id in enumerate(ids)
    ]
    driver = SimulatedDriver(tmp_path)
    await asyncio.gather(*(driver.plug(port) for port in ports))
    assert {lease.ip_address for lease in await driver.leases()} == {str(port.addresses[0]) for port in ports}
    await driver.close()
    again = SimulatedDriver(tmp_path)
    assert await again.known_ports() == set(ids)
    await asyncio.gather(*(again.unplug(port_id) for port_id in ids))
    assert await again.known_ports() == frozenset() and await again.leases() == []
    await again.close()
