"""Many at once, through both gateways, for what is there once: as many get it as there is, the others leave nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from cirra.compute.v1.compute_pb2 import InstanceNic
from cirra.operations.v1.operations_pb2 import Operation
from cirra_sdk.errors import CirraApiError, FailedPrecondition, NotFound, ResourceExhausted
from tests.harness.cloud import REPLICAS, Cloud, Parts, Tenant
from tests.harness.leftovers import all_given_back
from tests.integration.acceptance.refusals import check_refusal

pytestmark = pytest.mark.asyncio(loop_scope="module")

AT_ONCE = 8


async def _at_once(tenant: Tenant, parts: Parts, **wanted: Any) -> tuple[list[Operation], list[CirraApiError]]:
    """Creates over all gateways: those accepted, and why the others were not."""
    clients = [tenant.at(gateway) for gateway in range(REPLICAS)]
    tenant.catch_up()
    arguments = {"flavor": parts.flavor, "image": parts.image, **wanted}
    if "nics" not in arguments:
        arguments.setdefault("networks", [parts.network])
    calls = (clients[n % REPLICAS].instances.create(f"guest-{n}", **arguments) for n in range(AT_ONCE))
    accepted, refused = await _sorted(*calls)
    tenant.catch_up()
    return accepted, refused


async def _sorted(*calls: Awaitable[Any]) -> tuple[list[Any], list[CirraApiError]]:
    results = await asyncio.gather(*calls, return_exceptions=True)
    errors = [result for result in results if isinstance(result, CirraApiError)]
    answers = [result for result in results if not isinstance(result, BaseException)]
    assert len(errors) + len(answers) == len(results), results
    return answers, errors


async def _delete_all(tenant: Tenant) -> None:
    for operation in [await tenant.client.instances.delete(each) async for each in tenant.client.instances.list()]:
        await tenant.client.operations.wait(operation, timeout_s=120)


async def test_the_last_addresses_of_a_subnet(cloud: Cloud, tenant: Tenant) -> None:
    parts = await tenant.prepare(cidr="10.0.1.0/24", allocation_pools=[("10.0.1.10", "10.0.1.13")])
    async with all_given_back(cloud):
        accepted, refused = await _at_once(tenant, parts)
        assert len(accepted) == 3, "the fourth is the DHCP server's"
        for error in refused:
            check_refusal(error, ResourceExhausted, "SUBNET_EXHAUSTED", says="10.0.1.0/24")
        for operation in accepted:
            await tenant.client.operations.wait(operation, timeout_s=120)
        instances = [each async for each in tenant.client.instances.list()]
        assert {instance.nics[0].fixed_ip for instance in instances} == {"10.0.1.11", "10.0.1.12", "10.0.1.13"}
        assert (await tenant.usage())["ports"] == 3
        await _delete_all(tenant)


async def test_the_last_of_a_quota(cloud: Cloud) -> None:
    tenant = await cloud.tenant({"instances": 5})
    parts = await tenant.prepare()
    async with all_given_back(cloud):
        accepted, refused = await _at_once(tenant, parts)
        assert len(accepted) == 5
        for error in refused:
            check_refusal(error, ResourceExhausted, "QUOTA_EXCEEDED", "instances", says="5 of 5 used")
        assert await tenant.usage() == {"instances": 5, "vcpus": 5, "memory_mib": 320, "ports": 5, "networks": 1}
        await _delete_all(tenant)
    assert await tenant.usage() == {"networks": 1}


async def test_one_port(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    port = await tenant.client.ports.create(network=parts.network)
    async with all_given_back(cloud):
        accepted, refused = await _at_once(tenant, parts, nics=[InstanceNic(port=port.name)])
        [operation] = accepted
        for error in refused:
            check_refusal(error, FailedPrecondition, "PORT_IN_USE", says="delete the instance first")
        await tenant.client.operations.wait(operation, timeout_s=120)
        assert (await tenant.client.ports.get(port)).device_id == operation.target.rpartition("/")[2]
        await _delete_all(tenant)
    assert (await tenant.client.ports.get(port)).device_id == "", "what was there before stays"


async def test_one_instance_deleted_by_many(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    async with all_given_back(cloud):
        instance = await tenant.boot(parts)
        clients = [tenant.at(gateway) for gateway in range(REPLICAS)]
        tenant.catch_up()
        deleted, refused = await _sorted(*(clients[n % REPLICAS].instances.delete(instance) for n in range(AT_ONCE)))
        assert len({operation.uid for operation in deleted}) == 1
        for error in refused:
            # It came when all was over.
            check_refusal(error, NotFound, "NOT_FOUND", "name")
        await tenant.client.operations.wait(deleted[0], timeout_s=120)


async def test_an_image_that_goes_while_instances_come(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    for number in range(4):
        image = await tenant.client.images.create(f"short-lived-{number}")
        await tenant.client.images.upload(image, parts.disk)
        clients = [tenant.at(gateway) for gateway in range(REPLICAS)]
        tenant.catch_up()
        creating = clients[0].instances.create("web", flavor=parts.flavor, image=image, networks=[parts.network])
        created, deleted = await asyncio.gather(_sorted(creating), _sorted(clients[1].images.delete(image)))
        operations, refusals = created
        tenant.catch_up()
        images = [each.uid async for each in tenant.client.images.list()]
        assert (image.uid in images) == bool(operations), "either it has an instance and stays, or it is gone"
        for error in refusals:
            check_refusal(error, NotFound, "NOT_FOUND", "image")
        for error in deleted[1]:
            check_refusal(error, FailedPrecondition, "IMAGE_IN_USE", "image")
        for operation in operations:
            await tenant.client.operations.wait(operation, timeout_s=120)
    await _delete_all(tenant)
