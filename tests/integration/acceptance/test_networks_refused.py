"""Subnets and ports that can't be, and things that can't go while others use them."""

from __future__ import annotations

from typing import Any

import pytest

from cirra.network.v1.network_pb2 import FixedIp
from cirra_sdk.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted
from tests.harness.cloud import PUBLIC_KEY, Cloud, Parts, Standing, Tenant
from tests.harness.leftovers import all_given_back
from tests.integration.acceptance.refusals import refused

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize(
    ("field", "says", "wanted"),
    [
        (
            "subnet.allocation_pools[1]",
            "overlaps 10.1.0.10-10.1.0.20",
            {"allocation_pools": [("10.1.0.10", "10.1.0.20"), ("10.1.0.20", "10.1.0.30")]},
        ),
        (
            "subnet.allocation_pools[0]",
            "holds the gateway, 10.1.0.15: leave it out",
            {"gateway_ip": "10.1.0.15", "allocation_pools": [("10.1.0.10", "10.1.0.20")]},
        ),
        ("subnet.allocation_pools[0]", "the gateway", {"allocation_pools": [("10.1.0.1", "10.1.0.20")]}),
        ("subnet.allocation_pools[0].end", "10.1.0.0/24", {"allocation_pools": [("10.1.0.10", "10.1.1.20")]}),
        ("subnet.allocation_pools[0].start", "10.1.0.0/24", {"allocation_pools": [("10.0.0.10", "10.1.0.20")]}),
        ("subnet.allocation_pools[0].start", "10.1.0.0/24", {"allocation_pools": [("10.1.0.0", "10.1.0.20")]}),
        ("subnet.allocation_pools[0].end", "10.1.0.0/24", {"allocation_pools": [("10.1.0.9", "10.1.0.255")]}),
        ("subnet.allocation_pools[0]", "10.1.0.20", {"allocation_pools": [("10.1.0.20", "10.1.0.10")]}),
        ("subnet.allocation_pools[0].start", "'x'", {"allocation_pools": [("x", "10.1.0.10")]}),
        ("subnet.allocation_pools", "no address is left", {"allocation_pools": [("10.1.0.9", "10.1.0.9")]}),
        ("subnet.cidr", "10.0.0.0/24, another subnet", {"cidr": "10.0.0.0/16"}),
        ("subnet.cidr", "give 10.1.0.0/24", {"cidr": "10.1.0.7/24"}),
        ("subnet.cidr", "/64", {"cidr": "fd00::/96"}),
        ("subnet.cidr", "fe80::/10", {"cidr": "fe80::/64"}),
        ("subnet.host_routes[0].next_hop", "10.1.0.0/24", {"host_routes": [("10.9.0.0/16", "10.2.0.1")]}),
        ("subnet.host_routes[0].destination", "10.9.0.0/16", {"host_routes": [("10.9.0.1/16", "10.1.0.9")]}),
        ("subnet.cidr", "give", {"cidr": "nonsense"}),
        ("subnet.cidr", "/31", {"cidr": "10.1.0.0/31"}),
        ("subnet.cidr", "169.254.0.0/16", {"cidr": "169.254.7.0/24"}),
        ("subnet.gateway_ip", "10.1.0.0/24", {"gateway_ip": "10.2.0.1"}),
        ("subnet.gateway_ip", "no_gateway", {"gateway_ip": "10.1.0.1", "no_gateway": True}),
        ("subnet.dhcp_ip", "gateway", {"dhcp_ip": "10.1.0.1"}),
        ("subnet.dns_nameservers[0]", "'dns'", {"dns_nameservers": ["dns"]}),
    ],
)
async def test_a_subnet(cloud: Cloud, standing: Standing, field: str, says: str, wanted: dict[str, Any]) -> None:
    subnet = {"network": standing.parts.network, "cidr": "10.1.0.0/24", **wanted}
    async with refused(cloud, InvalidArgument, "INVALID_ARGUMENT", field, says=says):
        await standing.tenant.client.subnets.create("another", **subnet)


async def test_a_subnet_or_port_of_no_network(cloud: Cloud, standing: Standing) -> None:
    client = standing.tenant.client
    async with refused(cloud, NotFound, "NOT_FOUND", "subnet.network"):
        await client.subnets.create("lost", network="nothing", cidr="10.1.0.0/24")
    async with refused(cloud, NotFound, "NOT_FOUND", "port.network"):
        await client.ports.create(network="nothing")


async def test_ports(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    client = tenant.client
    taken = await client.ports.create(network=parts.network, fixed_ips=[FixedIp(ip_address="10.0.0.77")])
    async with refused(cloud, AlreadyExists, "ADDRESS_IN_USE", "port.fixed_ips", says="10.0.0.77"):
        await client.ports.create(network=parts.network, fixed_ips=[FixedIp(ip_address="10.0.0.77")])
    async with refused(cloud, AlreadyExists, "MAC_ADDRESS_IN_USE", "port.mac_address", says=taken.mac_address):
        await client.ports.create(network=parts.network, mac_address=taken.mac_address)
    for field, wanted in (
        ("port.mac_address", {"mac_address": "01:00:5e:00:00:01"}),
        ("port.mac_address", {"mac_address": "nonsense"}),
        ("port.fixed_ips[0].ip_address", {"fixed_ips": [FixedIp(ip_address="10.9.9.9")]}),
        ("port.fixed_ips[0].ip_address", {"fixed_ips": [FixedIp(ip_address="10.0.0.1")]}),
        ("port.fixed_ips[1].ip_address", {"fixed_ips": [FixedIp(ip_address="10.0.0.9")] * 2}),
        ("port.fixed_ips[0]", {"fixed_ips": [FixedIp()]}),
    ):
        async with refused(cloud, InvalidArgument, "INVALID_ARGUMENT", field):
            await client.ports.create(network=parts.network, **wanted)


async def test_the_last_address_of_a_subnet(cloud: Cloud, tenant: Tenant) -> None:
    parts = await tenant.prepare(cidr="10.0.1.0/29", allocation_pools=[("10.0.1.2", "10.0.1.4")])
    for _ in range(2):
        await tenant.client.ports.create(network=parts.network)
    async with refused(cloud, ResourceExhausted, "SUBNET_EXHAUSTED", says="delete ports"):
        await tenant.client.ports.create(network=parts.network)


async def test_what_is_in_use_stays(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    client = tenant.client
    before = await tenant.usage()
    async with all_given_back(cloud):
        instance = await tenant.boot(parts)
        async with refused(cloud, FailedPrecondition, "NETWORK_IN_USE", says="it has 1 ports"):
            await client.networks.delete(parts.network)
        async with refused(cloud, FailedPrecondition, "SUBNET_IN_USE", says="delete its ports first"):
            await client.subnets.delete(parts.subnet)
        async with refused(cloud, FailedPrecondition, "IMAGE_IN_USE", says="delete its instances first"):
            await client.images.delete(parts.image)
        async with refused(cloud, FailedPrecondition, "PORT_IN_USE", says=instance.uid):
            await client.ports.delete(instance.nics[0].port)
        async with refused(cloud, FailedPrecondition, "PROJECT_IN_USE", says="are left in it"):
            await cloud.admin.projects.delete(tenant.project)
        await client.operations.wait(await client.instances.delete(instance), timeout_s=120)
    assert await tenant.usage() == before


async def test_what_is_deleted_is_not_there(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    client, admin = tenant.client, cloud.admin
    port = await client.ports.create(network=parts.network)
    key = await client.key_pairs.create("laptop", PUBLIC_KEY)
    instance = await tenant.boot(parts)
    await client.operations.wait(await client.instances.delete(instance), timeout_s=120)
    for collection, resource in (
        (client.instances, instance),
        (client.ports, port),
        (client.key_pairs, key),
        (client.subnets, parts.subnet),
        (client.networks, parts.network),
        (client.images, parts.image),
        (admin.flavors, parts.flavor),
        (admin.users, tenant.user),
        (admin.projects, tenant.project),
    ):
        things: Any = collection
        if resource is not instance:
            await things.delete(resource)
        async with refused(cloud, NotFound, "NOT_FOUND", says=resource.name):
            await things.delete(resource)
        async with refused(cloud, NotFound, "NOT_FOUND", says=resource.uid):
            await things.get(resource.uid)
        assert resource.uid not in [each.uid async for each in things.list()]
