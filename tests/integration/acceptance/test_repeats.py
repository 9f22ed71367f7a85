"""The same request again, later or at once, through either gateway: one thing is done, and the answer is the same."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cirra_sdk import AsyncClient
from cirra_sdk.errors import CirraApiError, NotFound
from tests.harness.cloud import PUBLIC_KEY, REPLICAS, Cloud, Parts, Standing, Tenant
from tests.harness.leftovers import nothing_left
from tests.harness.replicas import ADMIN_PASSWORD

pytestmark = pytest.mark.asyncio(loop_scope="module")

AT_ONCE = 8

Call = Callable[[AsyncClient, str], Awaitable[Any]]


def _writes(parts: Parts) -> dict[str, Call]:
    """Kind → a call that makes one, of a client and a request id."""
    lan = parts.network
    return {
        "instance": lambda client, request: client.instances.create(
            "web", flavor=parts.flavor, image=parts.image, networks=[lan], user_data="#!/bin/sh", request_id=request
        ),
        "network": lambda client, request: client.networks.create("n", request_id=request),
        "subnet": lambda client, request: client.subnets.create(
            "s", network=lan, cidr="10.77.0.0/24", request_id=request
        ),
        "port": lambda client, request: client.ports.create(network=lan, request_id=request),
        "image": lambda client, request: client.images.create("i", request_id=request),
        "key_pair": lambda client, request: client.key_pairs.create("k", PUBLIC_KEY, request_id=request),
    }


def _admin_writes(number: int) -> dict[str, Call]:
    return {
        "flavor": lambda client, request: client.flavors.create(
            f"again-{number}", vcpus=1, memory_mib=1, disk_gib=1, request_id=request
        ),
        "project": lambda client, request: client.projects.create(f"again-{number}", request_id=request),
        "user": lambda client, request: client.users.create(f"again-{number}", "password", request_id=request),
    }


async def _is_one(cloud: Cloud, clients: list[AsyncClient], call: Call, request_id: str) -> Any:
    """At once over all gateways, then once more over each."""
    answers = await asyncio.gather(*(call(clients[n % len(clients)], request_id) for n in range(AT_ONCE)))
    assert len({answer.uid for answer in answers}) == 1
    async with nothing_left(cloud):
        for client in clients:
            assert (await call(client, request_id)).uid == answers[0].uid
    return answers[0]


@pytest.mark.parametrize("kind", ["network", "subnet", "port", "image", "key_pair"])
async def test_a_member_who_asks_again(cloud: Cloud, standing: Standing, kind: str) -> None:
    tenant = standing.tenant
    clients = [tenant.at(gateway) for gateway in range(REPLICAS)]
    tenant.catch_up()
    call = _writes(standing.parts)[kind]
    first = await _is_one(cloud, clients, call, f"{kind}-1")
    collection = getattr(tenant.client, f"{kind}s")
    assert (await collection.get(first.uid)) == first
    assert [each.uid async for each in collection.list()].count(first.uid) == 1


@pytest.mark.parametrize("kind", ["flavor", "project", "user"])
async def test_an_administrator_who_asks_again(cloud: Cloud, kind: str) -> None:
    accounts = [cloud.account("admin", ADMIN_PASSWORD, "admin", gateway=gateway) for gateway in range(REPLICAS)]
    call = _admin_writes(cloud.number())[kind]
    await _is_one(cloud, [account.client for account in accounts], call, f"{kind}-1")


async def test_an_instance_is_built_once(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    clients = [tenant.at(gateway) for gateway in range(REPLICAS)]
    tenant.catch_up()
    call = _writes(parts)["instance"]
    answers = await asyncio.gather(*(call(clients[n % REPLICAS], "instance-1") for n in range(AT_ONCE)))
    assert len({(answer.uid, answer.target) for answer in answers}) == 1
    await tenant.client.operations.wait(answers[0], timeout_s=120)
    async with nothing_left(cloud):
        again = await call(tenant.at(1), "instance-1")
    assert (again.uid, again.done) == (answers[0].uid, True)
    [instance] = [each async for each in tenant.client.instances.list()]
    assert instance.name == answers[0].target
    assert await tenant.usage() == {"instances": 1, "vcpus": 1, "memory_mib": 64, "ports": 1, "networks": 1}
    assert sum(instance.uid in host.domains for host in cloud.hosts) == 1


async def test_the_last_of_a_quota_is_given_once(cloud: Cloud) -> None:
    """Who repeats what was done is not told that there is no room for another."""
    tenant = await cloud.tenant({"networks": 1})
    first = await tenant.client.networks.create("only", request_id="r")
    assert (await tenant.client.networks.create("only", request_id="r")).uid == first.uid
    with pytest.raises(CirraApiError) as raised:
        await tenant.client.networks.create("only", request_id="another")
    assert raised.value.reason == "QUOTA_EXCEEDED"


async def test_what_was_refused_may_be_asked_again(cloud: Cloud) -> None:
    tenant = await cloud.tenant({"networks": 0})
    with pytest.raises(CirraApiError):
        await tenant.client.networks.create("lan", request_id="r")
    await cloud.admin.quotas.set(tenant.project, {"networks": 1})
    tenant.catch_up()
    assert (await tenant.client.networks.create("lan", request_id="r")).display_name == "lan"


async def test_request_ids_are_each_users_own(cloud: Cloud, standing: Standing, tenant: Tenant) -> None:
    uids = {(await each.client.networks.create("mine", request_id="1")).uid for each in (standing.tenant, tenant)}
    assert len(uids) == 2


@pytest.mark.parametrize("kind", ["network", "subnet", "port", "image", "key_pair"])
async def test_who_asks_again_to_delete_is_told_the_same(
    cloud: Cloud, standing: Standing, tenant: Tenant, kind: str
) -> None:
    """The answer to a delete may get lost, too (AIP-155)."""
    parts = await tenant.prepare()
    made = await _writes(parts)[kind](tenant.client, "make")
    collection = getattr(tenant.client, f"{kind}s")
    await collection.delete(made, request_id="d")
    async with nothing_left(cloud):
        for name in (made.name, made.uid):
            await collection.delete(name, request_id="d")
    with pytest.raises(NotFound):
        await collection.delete(made, request_id="another")


async def test_who_asks_again_to_delete_an_instance_gets_its_operation(
    cloud: Cloud, tenant: Tenant, parts: Parts
) -> None:
    instance = await tenant.boot(parts, "web")
    first = await tenant.client.instances.delete("web", request_id="d")
    await tenant.client.operations.wait(first, timeout_s=120)
    async with nothing_left(cloud):
        for name in (instance.name, instance.uid, "web"):
            assert (await tenant.client.instances.delete(name, request_id="d")).uid == first.uid
    with pytest.raises(NotFound):
        await tenant.client.instances.delete("web", request_id="another")
