"""Several instances in one request: as many as there is room for, or none; each with its own name and address."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cirra.compute.v1.compute_pb2 import INSTANCE_STATUS_ACTIVE, InstanceNic
from cirra.compute.v1.events_pb2 import InstanceCreated
from cirra.operations.v1.operations_pb2 import Operation
from cirra_sdk import AsyncClient
from cirra_sdk.errors import InvalidArgument, ResourceExhausted
from tests.harness.cloud import Cloud, Parts, Standing, Tenant
from tests.harness.leftovers import all_given_back, nothing_left
from tests.integration.acceptance.refusals import refused

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def several(
    tenant: Tenant, parts: Parts, most: int, least: int = 1, client: AsyncClient | None = None, **others: Any
) -> list[Operation]:
    wanted = {"flavor": parts.flavor, "image": parts.image, "networks": [parts.network], **others}
    if "nics" in others:
        del wanted["networks"]
    client = client or tenant.client
    return await client.instances.create_many("web", min_count=least, max_count=most, **wanted)


async def test_three_alike(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    async with all_given_back(cloud):
        operations = await several(tenant, parts, 3, user_data=b"#!", metadata={"a": "b"}, tags=["t"])
        built = [await tenant.client.instances.get(each.target) for each in operations]
        assert [(it.display_name, it.hostname) for it in built] == [(f"web-{n}", f"web-{n}") for n in (1, 2, 3)]
        assert len({it.nics[0].fixed_ip for it in built} | {it.uid for it in built}) == 6
        assert {(it.metadata["a"], it.tags[0], it.flavor) for it in built} == {("b", "t", parts.flavor.uid)}
        for operation in operations:
            await tenant.client.operations.wait(operation, timeout_s=120)
        assert [(await tenant.client.instances.get(it)).status for it in built] == [INSTANCE_STATUS_ACTIVE] * 3
        assert (await tenant.usage())["ports"] == 3
        created = [
            InstanceCreated.FromString(event.data)
            for event in await cloud.plane.repository.log.list_events(aggregate_type="instance")
            if event.version == 1 and str(event.aggregate_id) in {it.uid for it in built}
        ]
        assert [it.launch_index for it in created] == [0, 1, 2], "guests are told their index"
        assert len({it.reservation_id for it in created}) == 1
        for instance in built:
            await tenant.client.operations.wait(await tenant.client.instances.delete(instance), timeout_s=120)


async def test_one_alone_keeps_its_name(tenant: Tenant, parts: Parts) -> None:
    [operation] = await several(tenant, parts, 1)
    assert (await tenant.client.instances.get(operation.target)).display_name == "web"


@pytest.mark.parametrize(
    ("resource", "limit", "fit"),
    [("instances", 3, 3), ("vcpus", 2, 2), ("memory_mib", 64 * 4 + 63, 4), ("ports", 3, 3)],
)
async def test_as_many_as_a_quota_allows(cloud: Cloud, resource: str, limit: int, fit: int) -> None:
    tenant = await cloud.tenant({resource: limit})
    parts = await tenant.prepare()
    assert len(await several(tenant, parts, 5, least=fit)) == fit
    assert (await tenant.usage())["instances"] == fit


async def test_none_where_the_least_do_not_fit(cloud: Cloud) -> None:
    tenant = await cloud.tenant({"vcpus": 4})
    parts = await tenant.prepare()
    flavor = await cloud.flavor(vcpus=2)
    tenant.catch_up()
    async with refused(cloud, ResourceExhausted, "QUOTA_EXCEEDED", "vcpus", says="0 of 4 used, 6 more asked"):
        await several(tenant, parts, 5, least=3, flavor=flavor)
    assert await tenant.usage() == {"networks": 1}


async def test_as_many_as_there_are_addresses(cloud: Cloud, tenant: Tenant) -> None:
    parts = await tenant.prepare(cidr="10.0.1.0/24", allocation_pools=[("10.0.1.10", "10.0.1.13")])
    async with refused(cloud, ResourceExhausted, "SUBNET_EXHAUSTED"):
        await several(tenant, parts, 5, least=4)
    assert len(await several(tenant, parts, 5, least=3)) == 3, "the fourth is the DHCP server's"


async def test_many_who_ask_for_several_at_once_share_what_there_is(cloud: Cloud) -> None:
    """Exactly all of it is given, and nobody gets fewer than the least it asked for."""
    tenant = await cloud.tenant({"instances": 10})
    parts = await tenant.prepare()
    clients = [tenant.at(0), tenant.at(1)]
    tenant.catch_up()
    asked = (several(tenant, parts, 3, least=1, client=clients[n % 2]) for n in range(8))
    answers = await asyncio.gather(*asked, return_exceptions=True)
    given = [len(answer) for answer in answers if isinstance(answer, list)]
    assert sum(given) == 10
    assert {type(answer) for answer in answers} <= {list, ResourceExhausted}
    tenant.catch_up()
    assert (await tenant.usage())["instances"] == 10


async def test_the_same_request_again(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    first = await several(tenant, parts, 3, request_id="r")
    for operation in first:
        await tenant.client.operations.wait(operation, timeout_s=120)
    clients = [tenant.at(0), tenant.at(1)]
    tenant.catch_up()
    async with nothing_left(cloud):
        for client in clients:
            again = await several(tenant, parts, 3, client=client, request_id="r")
            assert [it.uid for it in again] == [it.uid for it in first]


@pytest.mark.parametrize(
    ("field", "least", "most"),
    [("min_count", 3, 2), ("max_count", 1, 101), ("min_count", -1, 2), ("max_count", 1, -1), ("min_count", 101, 101)],
)
async def test_counts_that_are_none(cloud: Cloud, standing: Standing, field: str, least: int, most: int) -> None:
    async with refused(cloud, InvalidArgument, "INVALID_ARGUMENT", field):
        await several(standing.tenant, standing.parts, most, least)


async def test_what_several_cant_share(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    port = await tenant.client.ports.create(network=parts.network)
    nics = [InstanceNic(network=parts.network.uid, fixed_ip="10.0.0.9"), InstanceNic(port=port.name)]
    for field in ("instance.nics[0].fixed_ip", "instance.nics[1].port"):
        async with refused(cloud, InvalidArgument, "INVALID_ARGUMENT", field, says="share"):
            await several(tenant, parts, 2, nics=nics)
    async with refused(cloud, InvalidArgument, "INVALID_ARGUMENT", "instance.display_name"):
        await tenant.client.instances.create_many(
            "x" * 254, max_count=10, flavor=parts.flavor, image=parts.image, networks=[parts.network]
        )


async def test_nics_in_their_order_with_their_addresses(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    second = await tenant.client.networks.create("second")
    await tenant.client.subnets.create("s", network=second, cidr="10.5.0.0/24")
    port = await tenant.client.ports.create(network=second)
    given = port.fixed_ips[0].ip_address
    wanted = "10.5.0.50" if given != "10.5.0.50" else "10.5.0.51"  # addresses are given out at random
    nics = [
        InstanceNic(network=second.name, fixed_ip=wanted),
        InstanceNic(network=parts.network.name, fixed_ip="10.0.0.50"),
        InstanceNic(port=port.name),
        InstanceNic(network=parts.network.name),
    ]
    booted = await tenant.boot(parts, nics=nics)
    assert [nic.network for nic in booted.nics] == [second.uid, parts.network.uid, second.uid, parts.network.uid]
    assert [nic.fixed_ip for nic in booted.nics][:3] == [wanted, "10.0.0.50", given]
    [domain] = [host.domains[booted.uid].domain for host in cloud.hosts if booted.uid in host.domains]
    assert [nic.mac_address for nic in domain.nics] == [nic.mac_address for nic in booted.nics]
    assert [nic.port_id for nic in domain.nics] == [nic.port for nic in booted.nics]
