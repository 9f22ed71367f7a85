"""What every network driver promises of routers and floating IPs, on a real host and on a simulated one."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface

import pytest

from core.ids import uuid7
from net_agent.drivers.base import NetworkFault
from net_agent.model import ExternalGateway, FloatingIp, Network, Port, Router, RouterInterface
from tests.contract.network.hosts import Host, LinuxHost, make_network, make_port
from tests.contract.network.waiting import until

OUTSIDE = make_network("203.0.113.0/24", physical_network="physnet1", mtu=1500, external=True)


def make_router(network: Network, **changes: object) -> Router:
    [subnet] = network.subnets
    interface = RouterInterface(
        network_id=network.network_id,
        subnet_id=subnet.subnet_id,
        mac_address="fa:16:3f:00:00:01",
        address=ip_interface(f"{subnet.gateway_ip}/{subnet.cidr.prefixlen}"),
        bridge=network.bridge,
        mtu=network.mtu,
    )
    gateway = ExternalGateway(
        network_id=OUTSIDE.network_id,
        bridge=OUTSIDE.bridge,
        mtu=OUTSIDE.mtu,
        host_addresses=(ip_interface("203.0.113.11/24"),),
        host_mac_address="0e:00:00:00:00:11",
        next_hops=(ip_address("203.0.113.1"),),
        snat=True,
    )
    router = Router(router_id=str(uuid7()), interfaces=(interface,), routes=(), gateway=gateway)
    return replace(router, **changes)  # type: ignore[arg-type]


def make_floating_ip(port: Port, router: Router) -> FloatingIp:
    return FloatingIp(
        floating_ip_id=str(uuid7()),
        floating_address=ip_address("203.0.113.50"),
        fixed_address=port.addresses[0],
        port_id=port.port_id,
        router_id=router.router_id,
        external_network_id=OUTSIDE.network_id,
    )


@pytest.mark.parametrize("order", [1, -1])
async def test_the_order_in_which_things_come_and_go_does_not_matter(host: Host, order: int) -> None:
    port = make_port(make_network(), 11)
    router = make_router(port.network)
    floating = make_floating_ip(port, router)
    before = await host.leftovers()
    await host.driver.plug(port)
    for each in (OUTSIDE, router, floating)[::order]:
        try:
            await host.driver.keep(each)
        except NetworkFault as fault:
            # What comes too early is kept, and made when the rest is there.
            assert order == -1, fault
    assert await host.driver.heal() == {}
    assert await host.driver.kept("router") == {router.router_id}
    assert await host.driver.kept("floating-ip") == {floating.floating_ip_id}
    assert (await host.driver.observe(port.port_id)).wired
    gone = (("floating-ip", floating.floating_ip_id), ("router", router.router_id), ("network", OUTSIDE.network_id))
    for kind, object_id in gone[::order]:
        await host.driver.drop(kind, object_id)
    assert await host.driver.heal() == {}
    assert await host.driver.kept("router") == await host.driver.kept("floating-ip") == frozenset()
    await host.driver.unplug(port.port_id)
    assert await host.leftovers() == before


async def test_a_restart_knows_its_routers(host: Host) -> None:
    port = make_port(make_network(), 11)
    router = make_router(port.network, gateway=None)
    await host.driver.plug(port)
    await host.driver.keep(router)
    before = await host.fingerprint(port.network)
    await host.restart()
    assert await host.driver.heal() == {}
    assert await host.driver.kept("router") == {router.router_id}
    assert await host.fingerprint(port.network) == before
    await host.driver.drop("router", router.router_id)
    await host.driver.unplug(port.port_id)


@pytest.mark.root
async def test_a_guest_gets_out_and_is_reached(linux: LinuxHost) -> None:
    """All of a host's parts together: DHCP tells the gateway, which leads out; a floating IP leads in."""
    port, other = (make_port(network, number) for network, number in ((make_network(), 11), (make_network(), 12)))
    router = make_router(port.network)
    await linux.command("ip", "addr", "add", "203.0.113.1/24", "dev", "provider1")
    await linux.command("ip", "link", "set", "provider1", "up")
    for guest_port in (port, other):
        await linux.driver.plug(guest_port)
    for derived in (OUTSIDE, router, make_floating_ip(port, router)):
        await linux.driver.keep(derived)
    guest = await linux.guest(port)
    assert await guest.dhcp() is not None
    assert await guest.reaches("203.0.113.1")

    async def answers() -> bool:
        found = await linux.command("sh", "-c", "busybox ping -c 1 -W 1 203.0.113.50 || true")
        return "1 packets received" in found

    await until(answers)
    await linux.command("ip", "netns", "exec", f"qrouter-{router.router_id}", "nft", "flush", "ruleset")
    assert await linux.driver.heal() == {}
    await until(answers)


@pytest.mark.root
async def test_the_fault_of_one_router_is_no_port_s(linux: LinuxHost) -> None:
    port = make_port(make_network(), 11)
    await linux.driver.plug(port)
    router = make_router(port.network)
    lost = replace(router, interfaces=(replace(router.interfaces[0], bridge="brq00000000000"),), gateway=None)
    with pytest.raises(NetworkFault, match="is not there"):
        await linux.driver.keep(lost)
    faults = await linux.driver.heal()
    assert faults.keys() == {("router", router.router_id)}
    assert (await linux.driver.observe(port.port_id)).wired
    await linux.driver.keep(replace(router, gateway=None))
    assert await linux.driver.heal() == {}
