"""Quotas, by the public API: set and shown; exact however many ask at once; freed exactly once, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cirra.agent.v1 import desired_pb2 as agent
from cirra.compute.v1.compute_pb2 import InstanceNic
from cirra.identity.v1.identity_pb2 import Quotas
from cirra.operations.v1.operations_pb2 import Operation
from cirra_sdk import AsyncClient
from cirra_sdk.errors import CirraApiError, InvalidArgument, NotFound, PermissionDenied, ResourceExhausted
from tests.harness.cloud import PATIENCE_S, PUBLIC_KEY, REPLICAS, Cloud, Parts, Standing, Tenant
from tests.harness.leftovers import all_given_back
from tests.harness.replicas import ADMIN_PASSWORD
from tests.integration.acceptance.refusals import check_refusal, refused

pytestmark = pytest.mark.asyncio(loop_scope="module")

AT_ONCE = 100
ROOM = 60
RESOURCES = [
    *("instances", "vcpus", "memory_mib", "volumes", "gigabytes", "floating_ips", "networks", "routers", "ports"),
    *("security_groups", "security_group_rules", "key_pairs"),
]


def limits(quotas: Quotas) -> dict[str, int]:
    return {quota.resource: quota.limit for quota in quotas.quotas}


def patient(tenant: Tenant) -> list[AsyncClient]:
    """A client of each gateway. What a busy machine has kept waiting for too long it asks again, which counts once."""
    return [tenant.at(gateway, retry_for_s=PATIENCE_S) for gateway in range(REPLICAS)]


async def many(tenant: Tenant, call: Callable[[AsyncClient, int], Awaitable[Any]]) -> list[Any]:
    """So many calls at once over both gateways: those that were answered. The others were refused by a quota."""
    clients = patient(tenant)
    tenant.catch_up()
    results = await asyncio.gather(*(call(clients[n % REPLICAS], n) for n in range(AT_ONCE)), return_exceptions=True)
    tenant.catch_up()
    for result in results:
        if isinstance(result, BaseException):
            assert isinstance(result, CirraApiError), result
            check_refusal(result, ResourceExhausted, "QUOTA_EXCEEDED", says="60 of 60 used")
    return [result for result in results if not isinstance(result, BaseException)]


async def delete_all(tenant: Tenant) -> None:
    """Each twice at once, over two gateways."""
    instances = [each async for each in tenant.client.instances.list()]
    clients = patient(tenant)
    asked = (client.instances.delete(each) for each in instances for client in clients)
    answers = await asyncio.gather(*asked, return_exceptions=True)
    operations = {answer.uid for answer in answers if isinstance(answer, Operation)}
    assert {type(answer) for answer in answers} <= {Operation, NotFound}
    assert len(operations) == len(instances)
    for uid in operations:
        await tenant.client.operations.wait(uid, timeout_s=PATIENCE_S)


async def test_100_creates_at_once_where_there_is_room_for_60(cloud: Cloud) -> None:
    """By instances, vCPUs and memory alike; of ports there is enough."""
    room = {"instances": ROOM, "vcpus": ROOM, "memory_mib": 64 * ROOM}
    tenant = await cloud.tenant({**room, "ports": -1})
    parts = await tenant.prepare()
    full = {**room, "ports": ROOM, "networks": 1}
    async with all_given_back(cloud):
        wanted: dict[str, Any] = {"flavor": parts.flavor, "image": parts.image, "networks": [parts.network]}
        accepted = await many(tenant, lambda client, n: client.instances.create(f"guest-{n}", **wanted))
        assert len(accepted) == ROOM
        assert await tenant.usage() == full
        for operation in accepted:
            await tenant.client.operations.wait(operation, timeout_s=PATIENCE_S)
        assert await tenant.usage() == full
        await delete_all(tenant)
    assert await tenant.usage() == {"networks": 1}


async def test_100_ports_and_100_key_pairs_at_once(cloud: Cloud) -> None:
    tenant = await cloud.tenant({"ports": ROOM, "key_pairs": ROOM})
    parts = await tenant.prepare()
    ports = await many(tenant, lambda client, n: client.ports.create(network=parts.network))
    pairs = await many(tenant, lambda client, n: client.key_pairs.create(f"key-{n}", PUBLIC_KEY))
    assert (len(ports), len(pairs)) == (ROOM, ROOM)
    assert await tenant.usage() == {"ports": ROOM, "key_pairs": ROOM, "networks": 1}
    clients = patient(tenant)
    twice = [client.ports.delete(port) for port in ports for client in clients]
    twice += [client.key_pairs.delete(pair) for pair in pairs for client in clients]
    answers = await asyncio.gather(*twice, return_exceptions=True)
    assert {type(answer) for answer in answers} <= {type(None), NotFound}
    tenant.catch_up()
    assert await tenant.usage() == {"networks": 1}


async def test_a_create_that_is_asked_again_is_counted_once(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    async with all_given_back(cloud):
        for name in ("a", "b"):
            answers = await asyncio.gather(*(tenant.create(parts, name, request_id=f"r-{name}") for _ in range(8)))
            assert len({answer.uid for answer in answers}) == 1
        assert (await tenant.usage())["instances"] == 2
        await delete_all(tenant)
    assert await tenant.usage() == {"networks": 1}


async def test_a_delete_during_the_create_frees_once(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    async with all_given_back(cloud):
        gate = asyncio.Event()
        for host in cloud.hosts:
            host.holding["domain"] = gate
        for name in ("a", "b", "c"):
            await tenant.create(parts, name)
        deleting = asyncio.create_task(delete_all(tenant))
        gate.set()
        await deleting
    assert await tenant.usage() == {"networks": 1}


async def test_a_create_that_fails_keeps_its_quota_until_it_is_deleted(
    cloud: Cloud, tenant: Tenant, parts: Parts
) -> None:
    """As in nova: it is there, in ERROR; but its port and address are free at once."""
    async with all_given_back(cloud):
        for host in cloud.hosts:
            host.failing["domain"] = agent.Failure(reason="BROKEN", message="no", remedy="mend it", reschedule=True)
        failed = await tenant.ended(await tenant.create(parts))
        assert failed.error.reason
        assert await tenant.usage() == {"instances": 1, "vcpus": 1, "memory_mib": 64, "networks": 1}
        await delete_all(tenant)
    assert await tenant.usage() == {"networks": 1}


async def test_a_port_from_before_is_not_counted_again(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    port = await tenant.client.ports.create(network=parts.network)
    await tenant.boot(parts, nics=[InstanceNic(port=port.name)])
    assert (await tenant.usage())["ports"] == 1
    await delete_all(tenant)
    assert await tenant.usage() == {"networks": 1, "ports": 1}


async def test_every_resource_has_a_limit_and_is_shown_with_its_usage(cloud: Cloud, tenant: Tenant) -> None:
    shown = await tenant.client.quotas.get()
    assert [quota.resource for quota in shown.quotas] == RESOURCES
    wanted = {resource: number for number, resource in enumerate(RESOURCES)}
    changed = await cloud.admin.quotas.set(tenant.project, wanted)
    assert limits(changed) == wanted
    tenant.catch_up()
    assert await tenant.client.quotas.get() == changed
    assert {quota.usage for quota in changed.quotas} == {0}
    unlimited = await cloud.admin.quotas.set(tenant.project, {"volumes": -1})
    assert limits(unlimited) == {**wanted, "volumes": -1}


async def test_a_limit_below_what_is_used(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    await tenant.boot(parts, "a")
    await tenant.boot(parts, "b")
    await cloud.admin.quotas.set(tenant.project, {"instances": 1})
    async with refused(cloud, ResourceExhausted, "QUOTA_EXCEEDED", "instances", says="2 of 1 used, 1 more asked"):
        await tenant.create(parts)
    await delete_all(tenant)
    await tenant.boot(parts, "c")


async def test_who_may_set_and_see_them(cloud: Cloud, standing: Standing, tenant: Tenant) -> None:
    client = tenant.client
    for call in (client.quotas.set(tenant.project, {"ports": 9}), client.quotas.set_default({"ports": 9})):
        async with refused(cloud, PermissionDenied, "ROLE_MISSING", says="ask an administrator"):
            await call
    async with refused(cloud, NotFound, "NOT_FOUND"):
        await client.quotas.get(standing.tenant.project)
    assert limits(await client.quotas.get_default()) == limits(await cloud.admin.quotas.get_default())


async def test_what_new_projects_are_given(cloud: Cloud, tenant: Tenant) -> None:
    before = await cloud.admin.quotas.get_default()
    old = limits(before)
    assert (before.name, {quota.usage for quota in before.quotas}) == ("defaultQuotas", {0})
    both = [cloud.admin, cloud.account("admin", ADMIN_PASSWORD, "admin", gateway=1).client]
    try:
        await asyncio.gather(both[0].quotas.set_default({"ports": 7}), both[1].quotas.set_default({"volumes": -1}))
        changed = {**old, "ports": 7, "volumes": -1}
        assert limits(await cloud.admin.quotas.get_default()) == changed
        later = await cloud.tenant()
        assert limits(await later.client.quotas.get()) == changed
        tenant.catch_up()
        assert limits(await tenant.client.quotas.get()) == old, "who is there keeps what it had"
    finally:
        await cloud.admin.quotas.set_default(old)


@pytest.mark.parametrize(
    ("limits", "field"), [({}, "quotas"), ({"cats": 1}, "quotas[0].resource"), ({"ports": -2}, "quotas[0].limit")]
)
async def test_limits_that_are_none(cloud: Cloud, tenant: Tenant, limits: dict[str, int], field: str) -> None:
    for call in (cloud.admin.quotas.set(tenant.project, limits), cloud.admin.quotas.set_default(limits)):
        async with refused(cloud, InvalidArgument, "INVALID_ARGUMENT", field):
            await call
