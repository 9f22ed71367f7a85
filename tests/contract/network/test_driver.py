"""What every network driver promises (`NetworkDriver`), on a real host and on a simulated one."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from net_agent.drivers.base import ABSENT, Lease, Neighbour, NetworkFault
from net_agent.model import Bandwidth
from tests.contract.network.fabric import make_peer, make_vxlan
from tests.contract.network.hosts import Host, make_network, make_port
from tests.contract.network.waiting import until


async def test_a_plugged_port_is_wired(host: Host) -> None:
    port = make_port(make_network(), 11)
    assert await host.driver.observe(port.port_id) == ABSENT
    await host.driver.plug(port)
    state = await host.driver.observe(port.port_id)
    assert state.wired and state.present and state.lacking == ()
    assert await host.driver.known_ports() == {port.port_id}
    assert await host.driver.active_ports() == [port]


async def test_plugging_again_changes_nothing(host: Host) -> None:
    network = make_network()
    port = make_port(network, 11)
    await host.driver.plug(port)
    before = await host.fingerprint(network)
    await host.driver.plug(port)
    await host.driver.plug(port)
    assert await host.fingerprint(network) == before


async def test_other_addresses_and_limits_are_taken_by_a_port_that_is_plugged(host: Host) -> None:
    port = make_port(make_network(), 11)
    await host.driver.plug(port)
    changed = replace(port, addresses=(IPv4Address("10.77.0.99"),), bandwidth=Bandwidth(egress_kbps=10_000))
    assert (await host.driver.plug(changed)).wired
    await host.boot(changed)

    async def leased() -> bool:
        return [lease.ip_address for lease in await host.driver.leases()] == ["10.77.0.99"]

    await until(leased)
    await host.driver.unplug(port.port_id)
    assert await host.leftovers() == []


async def test_a_restart_changes_nothing(host: Host) -> None:
    network = make_network()
    ports = [make_port(network, 11), make_port(network, 12)]
    for port in ports:
        await host.driver.plug(port)
    before = await host.fingerprint(network)
    await host.restart()
    assert await host.driver.known_ports() == {port.port_id for port in ports}
    for port in reversed(ports):
        assert (await host.driver.observe(port.port_id)).wired
        await host.driver.plug(port)
    assert await host.fingerprint(network) == before


async def test_unplugging_leaves_nothing(host: Host) -> None:
    assert await host.leftovers() == []
    port = make_port(make_network(), 11)
    await host.driver.plug(port)
    await host.driver.unplug(port.port_id)
    assert await host.driver.observe(port.port_id) == ABSENT
    assert await host.leftovers() == []
    await host.driver.unplug(port.port_id)
    assert await host.driver.known_ports() == frozenset()


async def test_what_was_never_plugged_is_unplugged_with_success(host: Host) -> None:
    port = make_port(make_network(), 11)
    await host.driver.unplug(port.port_id)
    assert await host.driver.observe(port.port_id) == ABSENT


async def test_ports_of_one_network_share_what_the_last_takes_away(host: Host) -> None:
    network = make_network()
    first, second = make_port(network, 11), make_port(network, 12)
    await host.driver.plug(first)
    await host.driver.plug(second)
    await host.driver.unplug(first.port_id)
    assert (await host.driver.observe(second.port_id)).wired
    assert await host.driver.observe(first.port_id) == ABSENT
    await host.driver.unplug(second.port_id)
    assert await host.leftovers() == []


async def test_many_ports_of_several_networks_at_once(host: Host) -> None:
    networks = [make_network(f"10.{number}.0.0/24") for number in (81, 82, 83)]
    ports = [make_port(network, number) for number in range(11, 15) for network in networks]
    await asyncio.gather(*(host.driver.plug(port) for port in ports))
    states = await asyncio.gather(*(host.driver.observe(port.port_id) for port in ports))
    assert all(state.wired for state in states)
    await asyncio.gather(*(host.driver.unplug(port.port_id) for port in ports))
    assert await host.leftovers() == []


async def test_an_inactive_port_is_wired_and_has_no_lease(host: Host) -> None:
    port = make_port(make_network(), 11, active=False)
    await host.driver.plug(port)
    assert (await host.driver.observe(port.port_id)).wired
    assert await host.driver.active_ports() == []
    assert await host.driver.leases() == []


async def test_a_booted_guest_is_seen(host: Host) -> None:
    port = make_port(make_network(), 11)
    await host.driver.plug(port)
    await host.boot(port)

    leases: list[Lease] = []
    neighbours: list[Neighbour] = []

    async def seen() -> bool:
        leases[:], neighbours[:] = await host.driver.leases(), await host.driver.neighbours()
        return bool(leases and neighbours)

    await until(seen)
    [lease], [neighbour] = leases, neighbours
    address = str(port.addresses[0])
    assert (lease.port_id, lease.mac_address, lease.ip_address) == (port.port_id, port.mac_address, address)
    assert (neighbour.port_id, neighbour.ip_address) == (port.port_id, address)
    assert await host.driver.neighbours(frozenset()) == []


async def test_activation_brings_the_guest_its_address(host: Host) -> None:
    port = make_port(make_network(), 11, active=False)
    await host.driver.plug(port)
    await host.driver.plug(replace(port, active=True))
    await host.boot(port)

    async def leased() -> bool:
        return [lease.port_id for lease in await host.driver.leases()] == [port.port_id]

    await until(leased)


async def test_an_address_that_was_anothers_is_free_at_once(host: Host) -> None:
    network = make_network()
    other, first = make_port(network, 50), make_port(network, 11)
    second = make_port(network, 12, addresses=first.addresses)
    await host.driver.plug(other)
    await host.driver.plug(first)
    await host.boot(first)
    await host.driver.unplug(first.port_id)
    await host.driver.plug(second)
    await host.boot(second)

    async def leased() -> bool:
        return (second.port_id, str(first.addresses[0])) in [
            (lease.port_id, lease.ip_address) for lease in await host.driver.leases()
        ]

    await until(leased)


async def test_a_port_that_moves_to_another_network_is_refused(host: Host) -> None:
    port = make_port(make_network(), 11)
    await host.driver.plug(port)
    with pytest.raises(NetworkFault) as refused:
        await host.driver.plug(replace(port, network=make_network()))
    assert refused.value.reason == "PORT_MOVED" and not refused.value.retryable
    assert (await host.driver.observe(port.port_id)).wired


async def test_a_physical_network_that_the_host_lacks_is_refused(host: Host) -> None:
    port = make_port(make_network(physical_network="physnet9"), 11)
    with pytest.raises(NetworkFault) as refused:
        await host.driver.plug(port)
    assert refused.value.reason == "PHYSICAL_NETWORK_UNKNOWN" and refused.value.reschedule
    assert await host.driver.observe(port.port_id) == ABSENT
    assert await host.leftovers() == []


async def test_the_driver_says_what_it_is(host: Host) -> None:
    info = host.driver.info
    assert info.physical_networks == ("physnet1",)
    assert info.simulated == (info.name == "simulated")


# ---- derived objects


async def test_derived_objects_are_kept_and_dropped(host: Host) -> None:
    network = make_vxlan(77)
    far = make_peer(network, 12)
    await host.driver.keep(far)
    await host.driver.keep(network)
    assert await host.driver.kept("peer") == {far.port_id}
    assert await host.driver.kept("network") == {network.network_id}
    await host.restart()
    assert await host.driver.kept("peer") == {far.port_id}
    assert await host.driver.heal() == {}
    for _ in range(2):
        await host.driver.drop("peer", far.port_id)
        await host.driver.drop("network", network.network_id)
    assert await host.driver.kept("peer") == await host.driver.kept("network") == frozenset()
    assert await host.leftovers() == []


async def test_a_network_of_its_own_outlives_its_ports(host: Host) -> None:
    network = make_vxlan(77)
    port = make_port(network, 11)
    await host.driver.keep(network)
    await host.driver.plug(port)
    await host.driver.unplug(port.port_id)
    assert await host.driver.kept("network") == {network.network_id}
    assert await host.driver.portless_networks() == {}
    await host.driver.plug(port)
    await host.driver.drop("network", network.network_id)
    assert (await host.driver.observe(port.port_id)).wired
    await host.driver.unplug(port.port_id)
    assert await host.leftovers() == []


async def test_healing_what_is_right_changes_nothing(host: Host) -> None:
    network = make_vxlan(77)
    port = make_port(network, 11)
    await host.driver.plug(port)
    await host.driver.keep(make_peer(network, 12))
    before = await host.fingerprint(network)
    for _ in range(2):
        assert await host.driver.heal() == {}
    assert await host.fingerprint(network) == before
