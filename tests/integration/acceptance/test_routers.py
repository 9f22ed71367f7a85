"""Routers, floating IPs and gateways of hosts: from the public API to what hosts are told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from cirra.agent.v1 import fabric_pb2 as fabric
from cirra.compute.v1.compute_pb2 import Instance
from cirra.network.v1.floating_ip_pb2 import FLOATING_IP_STATUS_ACTIVE, FLOATING_IP_STATUS_DOWN
from cirra.network.v1.network_pb2 import Network, Subnet
from cirra.network.v1.router_pb2 import Router
from cirra.placement.v1.placement_pb2 import HostGateway
from cirra_sdk.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from tests.harness.cloud import Cloud, Parts, Tenant
from tests.harness.control_plane import PATIENCE_S
from tests.harness.fake_host import FakeHost
from tests.harness.metadata_proxy import Proxy
from tests.integration.acceptance.refusals import refused

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True, slots=True)
class Way:
    """An external network with a pool, and a router of the tenant that leads there."""

    external: Network
    pool: Subnet
    router: Router


@dataclass(frozen=True, slots=True)
class AskingGuest:
    """As its host's metadata proxy knows it."""

    network: str
    address: str


async def until(look: Callable[[], bool]) -> None:
    """Returns once it is so: hosts are told a moment after the answer."""
    async with asyncio.timeout(PATIENCE_S):
        while not look():  # noqa: ASYNC110 - a host in memory wakes nobody
            await asyncio.sleep(0.02)


async def way_out(cloud: Cloud, tenant: Tenant, parts: Parts, first: int = 100, last: int = 110) -> Way:
    number = cloud.number()
    pool = f"198.18.{number}"
    external = await cloud.admin.networks.create(f"internet-{number}", external=True)
    subnet = await cloud.admin.subnets.create(
        f"pool-{number}",
        network=external,
        cidr=f"{pool}.0/24",
        dhcp_ip=f"{pool}.2",
        allocation_pools=[(f"{pool}.{first}", f"{pool}.{last}")],
    )
    tenant.catch_up()
    router = await tenant.client.routers.create(f"edge-{number}", external_network=external)
    return Way(external, subnet, await tenant.client.routers.add_interface(router, parts.subnet))


async def way_gone(cloud: Cloud, tenant: Tenant, parts: Parts, way: Way) -> None:
    """Nothing of it is left: hosts give their addresses back a moment after the last router."""
    await tenant.client.routers.remove_interface(way.router, parts.subnet)
    await tenant.client.routers.delete(way.router)
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await cloud.admin.networks.delete(way.external)
                return
            except FailedPrecondition as error:
                assert error.reason == "NETWORK_IN_USE", error
                await asyncio.sleep(0.05)


def host_of(cloud: Cloud, instance: Instance) -> FakeHost:
    return next(host for host in cloud.hosts if instance.uid in host.domains)


async def gateway_shown(cloud: Cloud, host: FakeHost, way: Way, look: Callable[[HostGateway], bool]) -> HostGateway:
    """What the host is on the external network, once it is shown so."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            for gateway in (await cloud.admin.hosts.get(host.name)).gateways:
                if gateway.network == way.external.uid and look(gateway):
                    return gateway
            await asyncio.sleep(0.05)


def router_on(host: FakeHost, router: Router) -> fabric.RouterSpec:
    found = host.derived.get(("router", router.uid))
    return fabric.RouterSpec() if found is None else found.router


async def gone(tenant: Tenant, *instances: Instance) -> None:
    for instance in instances:
        await tenant.client.operations.wait(await tenant.client.instances.delete(instance), timeout_s=PATIENCE_S)


async def test_a_guest_s_way_out_and_in(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    client = tenant.client
    way = await way_out(cloud, tenant, parts)
    instance = await tenant.boot(parts)
    host = host_of(cloud, instance)
    await until(lambda: bool(router_on(host, way.router).gateway.host_addresses))
    spec = router_on(host, way.router)
    assert [each.address for each in spec.interfaces] == ["10.0.0.1/24"]
    assert spec.gateway.snat and list(spec.gateway.next_hops) == [way.pool.gateway_ip]
    [address] = spec.gateway.host_addresses
    gateway = await gateway_shown(cloud, host, way, lambda gateway: bool(gateway.ip_address))
    assert f"{gateway.ip_address}/24" == address and gateway.mac_address == spec.gateway.host_mac_address
    assert all(("router", way.router.uid) not in other.derived for other in cloud.hosts if other is not host)

    floating = await client.floating_ips.create(way.external, port=instance.nics[0].port)
    await until(lambda: ("floating-ip", floating.uid) in host.derived)
    told = host.derived["floating-ip", floating.uid].floating_ip
    assert told.floating_ip_address == floating.floating_ip_address != gateway.ip_address
    assert (told.fixed_ip_address, told.router_id) == (instance.nics[0].fixed_ip, way.router.uid)
    assert list((await client.instances.get(instance)).nics[0].floating_ips) == [floating.floating_ip_address]
    assert (await client.floating_ips.get(floating.floating_ip_address)).status == FLOATING_IP_STATUS_ACTIVE

    await gone(tenant, instance)
    await until(lambda: ("floating-ip", floating.uid) not in host.derived)
    await until(lambda: ("router", way.router.uid) not in host.derived)
    async with asyncio.timeout(PATIENCE_S):
        while (free := await client.floating_ips.get(floating)).port:  # noqa: ASYNC110 - nobody waits for it
            await asyncio.sleep(0.05)
    assert free.status == FLOATING_IP_STATUS_DOWN and not free.router
    await client.floating_ips.delete(floating)
    await way_gone(cloud, tenant, parts, way)
    assert not [each for each in (await cloud.admin.hosts.get(host.name)).gateways if each.network == way.external.uid]


async def test_a_guest_is_told_its_floating_ip_and_its_groups(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    """By its metadata, as they are now: it asks again and again."""
    client = tenant.client
    way = await way_out(cloud, tenant, parts)
    front = await client.security_groups.create("front")
    instance = await tenant.boot(parts)
    nic = instance.nics[0]
    itself = AskingGuest(parts.network.uid, nic.fixed_ip)
    macs = f"network/interfaces/macs/{nic.mac_address}"
    async with httpx.AsyncClient(timeout=60) as http:
        proxy = Proxy(cloud.metadata, cloud.plane.metadata_key, host_of(cloud, instance).name, http)

        async def is_told(**wanted: str) -> None:
            """By that name below meta-data/; dashes are written as in Python."""
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    paths = [f"/latest/meta-data/{name.replace('_', '-')}" for name in wanted]
                    if [(await proxy.ask(path, itself)).text for path in paths] == [*wanted.values()]:
                        return

        await is_told(public_ipv4="", security_groups="default")
        floating = await client.floating_ips.create(way.external, port=nic.port)
        address = floating.floating_ip_address
        await is_told(public_ipv4=address, **{f"{macs}/public-ipv4s": address})
        await is_told(**{f"{macs}/ipv4-associations/{address}": nic.fixed_ip})
        await client.ports.update(nic.port, security_groups=["default", front])
        await is_told(security_groups="default\nfront", **{f"{macs}/security-groups": "default\nfront"})
        await client.security_groups.update(front, display_name="back")
        await is_told(security_groups="back\ndefault")
        await client.floating_ips.disassociate(floating)
        await client.ports.update(nic.port, security_groups=[front])
        await is_told(public_ipv4="", security_groups="back")
        assert (await proxy.ask(f"/latest/meta-data/{macs}/public-ipv4s", itself)).status_code == 404
    await gone(tenant, instance)
    await client.floating_ips.delete(floating)
    await client.security_groups.delete(front)
    await way_gone(cloud, tenant, parts, way)


async def test_without_snat_a_host_takes_no_address(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    way = await way_out(cloud, tenant, parts)
    await tenant.client.routers.set_gateway(way.router, way.external, enable_snat=False)
    instance = await tenant.boot(parts)
    host = host_of(cloud, instance)
    await until(lambda: bool(router_on(host, way.router).gateway.host_mac_address))
    gateway = router_on(host, way.router).gateway
    assert not gateway.snat and not gateway.host_addresses
    await tenant.client.routers.set_gateway(way.router, way.external)
    await until(lambda: bool(router_on(host, way.router).gateway.host_addresses))
    await tenant.client.routers.set_gateway(way.router, way.external, enable_snat=False)
    await until(lambda: not router_on(host, way.router).gateway.host_addresses)
    await gone(tenant, instance)
    await way_gone(cloud, tenant, parts, way)


async def test_an_exhausted_pool_is_a_visible_fault_and_floating_ips_go_on(
    cloud: Cloud, tenant: Tenant, parts: Parts
) -> None:
    client = tenant.client
    way = await way_out(cloud, tenant, parts, 100, 101)
    taken = [await client.floating_ips.create(way.external) for _ in range(2)]
    instance = await tenant.boot(parts)
    host = host_of(cloud, instance)
    await client.floating_ips.associate(taken[0], instance.nics[0].port)
    await until(lambda: ("floating-ip", taken[0].uid) in host.derived)
    fault = (await gateway_shown(cloud, host, way, lambda gateway: bool(gateway.fault))).fault
    assert fault.startswith("EXTERNAL_IP_ADDRESS_EXHAUSTED: ") and "don't get out" in fault
    assert router_on(host, way.router).gateway.host_mac_address, "floating IPs need no address of the host's"
    await client.floating_ips.delete(taken[1])
    await until(lambda: bool(router_on(host, way.router).gateway.host_addresses))
    shown = await gateway_shown(cloud, host, way, lambda gateway: bool(gateway.ip_address))
    assert shown.fault == ""
    await gone(tenant, instance)
    await client.floating_ips.delete(taken[0])
    await way_gone(cloud, tenant, parts, way)


async def test_one_router_of_several_subnets_is_where_any_of_them_is(
    cloud: Cloud, tenant: Tenant, parts: Parts
) -> None:
    client = tenant.client
    way = await way_out(cloud, tenant, parts)
    number = cloud.number()
    other = await client.networks.create(f"other-{number}")
    subnet = await client.subnets.create(f"other-{number}", network=other, cidr="10.1.0.0/24")
    await client.routers.add_interface(way.router, subnet)
    instance = await tenant.boot(parts)
    host = host_of(cloud, instance)
    await until(lambda: len(router_on(host, way.router).interfaces) == 2)
    await until(lambda: ("network", other.uid) in host.derived and ("network", way.external.uid) in host.derived)
    await client.routers.update(way.router, routes=[("10.9.0.0/16", "10.1.0.9")])
    await until(lambda: len(router_on(host, way.router).routes) == 1)
    await client.routers.update(way.router, routes=[])
    await client.routers.remove_interface(way.router, subnet)
    await until(lambda: ("network", other.uid) not in host.derived)
    await client.networks.delete(other)
    await gone(tenant, instance)
    await way_gone(cloud, tenant, parts, way)


async def test_what_routers_can_t_do(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    way = await way_out(cloud, tenant, parts)
    routers = tenant.client.routers
    second = await routers.create("second")
    overlapping = await tenant.prepare(cidr="10.0.0.0/25")
    async with refused(cloud, AlreadyExists, "SUBNET_ALREADY_ROUTED", "subnet"):
        await routers.add_interface(second, parts.subnet)
    async with refused(cloud, FailedPrecondition, "SUBNETS_OVERLAP", "subnet", says="10.0.0.0/25"):
        await routers.add_interface(way.router, overlapping.subnet)
    field, says = "external_gateway.network", "administrators make them"
    async with refused(cloud, FailedPrecondition, "NETWORK_NOT_EXTERNAL", field, says=says):
        await routers.set_gateway(second, parts.network)
    async with refused(cloud, FailedPrecondition, "ROUTER_IN_USE", says="remove its interfaces"):
        await routers.delete(way.router)
    async with refused(cloud, InvalidArgument, "INVALID_ARGUMENT", "router.routes[0].next_hop", says="in reach"):
        await routers.update(way.router, routes=[("10.9.0.0/16", "192.0.2.1")])
    await routers.delete(second)
    await way_gone(cloud, tenant, parts, way)


async def test_what_floating_ips_can_t_do(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    way = await way_out(cloud, tenant, parts)
    client, floating_ips = tenant.client, tenant.client.floating_ips
    port = await client.ports.create(network=parts.network)
    floating = await floating_ips.create(way.external, port=port)
    lonely = await tenant.prepare(cidr="10.7.0.0/24")
    far = await client.ports.create(network=lonely.network)
    async with refused(cloud, FailedPrecondition, "ROUTER_IN_USE_BY_FLOATING_IP", says="disassociate"):
        await client.routers.clear_gateway(way.router)
    async with refused(cloud, FailedPrecondition, "EXTERNAL_NETWORK_NOT_REACHABLE", "port", says="add-interface"):
        await floating_ips.associate(floating, far)
    async with refused(cloud, PermissionDenied, "PERMISSION_DENIED", "floating_ip.floating_ip_address"):
        await floating_ips.create(way.external, floating_ip_address="198.18.0.9")
    async with refused(cloud, AlreadyExists, "FIXED_IP_HAS_FLOATING_IP", "port", says="disassociate"):
        await floating_ips.create(way.external, port=port)
    async with refused(cloud, NotFound, "NOT_FOUND", "floating_ip.network"):
        await floating_ips.create("nowhere")
    await floating_ips.delete(floating)
    await client.ports.delete(port)
    await way_gone(cloud, tenant, parts, way)


async def test_external_networks_are_an_administrator_s_and_stay_while_they_are_used(
    cloud: Cloud, tenant: Tenant, parts: Parts
) -> None:
    way = await way_out(cloud, tenant, parts)
    async with refused(cloud, PermissionDenied, "PERMISSION_DENIED", "external"):
        await tenant.client.networks.create("mine", external=True)
    async with refused(cloud, FailedPrecondition, "NETWORK_IN_USE"):
        await cloud.admin.networks.delete(way.external)
    await way_gone(cloud, tenant, parts, way)


async def test_another_project_sees_nothing_of_them(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    way = await way_out(cloud, tenant, parts)
    floating = await tenant.client.floating_ips.create(way.external)
    stranger = await cloud.tenant()
    assert [each async for each in stranger.client.routers.list()] == []
    assert [each async for each in stranger.client.floating_ips.list()] == []
    assert (await stranger.client.networks.get(way.external)).uid == way.external.uid, "but of the external network"
    for collection, thing in ((stranger.client.routers, way.router), (stranger.client.floating_ips, floating)):
        things: Any = collection
        async with refused(cloud, NotFound, "NOT_FOUND", says=thing.uid):
            await things.get(thing.uid)
        async with refused(cloud, NotFound, "NOT_FOUND", says=thing.uid):
            await things.delete(thing.uid)
    found = [each.uid async for each in tenant.client.routers.list(external_network=way.external.uid)]
    assert found == [way.router.uid]
    free = [each.uid async for each in tenant.client.floating_ips.list(status=FLOATING_IP_STATUS_DOWN)]
    assert free == [floating.uid]
    assert [each async for each in tenant.client.floating_ips.list(status=FLOATING_IP_STATUS_ACTIVE)] == []
    await tenant.client.floating_ips.delete(floating)
    await way_gone(cloud, tenant, parts, way)


async def test_as_it_was(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    client = tenant.client
    way = await way_out(cloud, tenant, parts)
    port = await client.ports.create(network=parts.network)
    floating = await client.floating_ips.create(way.external)
    free = client.position
    await client.floating_ips.associate(floating, port)
    leading = client.position
    await client.floating_ips.delete(floating)
    for thing, at, field, value in (
        (floating, free, "port", ""),
        (floating, leading, "port", port.uid),
        (way.router, leading, "display_name", way.router.display_name),
    ):
        past = await client.events.resource_as_of(thing.name, position=at)
        was: Any = type(thing)()
        assert past.data.Unpack(was) and getattr(was, field) == value
    past = await client.events.resource_as_of(port.name, position=leading)
    was = type(port)()
    assert past.data.Unpack(was)
    assert [each.floating_ip_address for each in was.floating_ips] == [floating.floating_ip_address]
    titles = [entry.title for entry in (await client.timeline.get(floating.name)).entries]
    assert titles == ["FloatingIpCreated", "FloatingIpAssociated", "FloatingIpDisassociated", "FloatingIpDeleted"]
    await client.ports.delete(port)
    await way_gone(cloud, tenant, parts, way)
