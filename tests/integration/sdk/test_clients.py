"""The clients against a whole cloud with two gateways."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cirra.compute.v1 import compute_pb2 as compute
from cirra_sdk import AsyncClient, Client, errors
from cirra_sdk.state import FileMemory
from tests.harness.cloud import Cloud, Tenant

pytestmark = pytest.mark.asyncio(loop_scope="module")


def _login(cloud: Cloud, tenant: Tenant, gateway: int = 0) -> dict[str, Any]:
    return {
        "endpoint": f"http://{cloud.plane.gateway_addresses[gateway]}",
        "user": tenant.user.display_name,
        "password": tenant.password,
        "project": tenant.project.display_name,
    }


async def test_what_one_program_wrote_the_next_one_reads_at_another_gateway(
    cloud: Cloud, tenant: Tenant, tmp_path: Path
) -> None:
    """They share no more than a file, as two commands do."""
    for number in range(6):
        writer, reader = number % 2, (number + 1) % 2
        async with AsyncClient.connect(
            **_login(cloud, tenant, writer), memory=FileMemory(tmp_path / "memory")
        ) as client:
            made = await client.networks.create(f"lan-{number}")
        async with AsyncClient.connect(
            **_login(cloud, tenant, reader), memory=FileMemory(tmp_path / "memory")
        ) as client:
            assert await client.networks.get(made.uid) == made
            assert len([found async for found in client.networks.list(page_size=2)]) == number + 1


async def test_the_same_request_id_makes_one_thing(tenant: Tenant) -> None:
    first = await tenant.client.networks.create("lan", request_id="mine")
    assert await tenant.at(1).networks.create("lan", request_id="mine") == first
    assert [found async for found in tenant.client.networks.list()] == [first]


async def test_a_watch_tells_the_life_of_an_instance(tenant: Tenant) -> None:
    parts = await tenant.prepare()
    # Before the watch begins: its client must know of the instance.
    tenant.at(1)
    operation = await tenant.create(parts, "web")
    tenant.catch_up()
    seen: list[str] = []
    active = asyncio.Event()

    async def follow() -> None:
        async for change in tenant.at(1).instances.watch(operation.target):
            seen.append("GONE" if change.deleted else compute.InstanceStatus.Name(change.instance.status))
            if change.instance.status == compute.INSTANCE_STATUS_ACTIVE:
                active.set()

    following = asyncio.create_task(follow())
    await tenant.client.operations.wait(operation, timeout_s=30)
    async with asyncio.timeout(120):
        await active.wait()
    await tenant.client.operations.wait(await tenant.client.instances.delete(operation.target), timeout_s=30)
    async with asyncio.timeout(120):
        await following
    assert list(dict.fromkeys(seen))[-2:] == ["INSTANCE_STATUS_ACTIVE", "GONE"]
    with pytest.raises(errors.NotFound):
        await tenant.client.instances.get(operation.target)


async def test_a_token_that_was_revoked_is_replaced(tenant: Tenant) -> None:
    client = tenant.client
    before = await client.access_token()
    await client.tokens.revoke(before)
    assert [found async for found in client.networks.list()] == []
    assert await client.access_token() != before


async def test_another_projects_things_are_not_there(cloud: Cloud, tenant: Tenant) -> None:
    network = await tenant.client.networks.create("lan")
    stranger = await cloud.tenant()
    with pytest.raises(errors.NotFound) as refused:
        await stranger.client.networks.get(network.name)
    assert refused.value.reason == "NOT_FOUND" and refused.value.remedy


async def test_the_sync_client_does_the_same(cloud: Cloud, tenant: Tenant) -> None:
    parts = await tenant.prepare()

    def whole_life() -> list[str]:
        steps: list[str] = []
        with Client.connect(**_login(cloud, tenant)) as client:
            operation = client.instances.create("web", flavor=parts.flavor, image=parts.image, networks=[parts.network])
            done = client.operations.wait(operation, timeout_s=30)
            steps.extend(step.step for step in done.steps)
            assert [instance.display_name for instance in client.instances.list()] == ["web"]
            assert client.instances.get(operation.target).status == compute.INSTANCE_STATUS_ACTIVE
            client.operations.wait(client.instances.delete("web"), timeout_s=30)
            assert list(client.instances.list()) == []
        return steps

    assert "claim_host" in await asyncio.to_thread(whole_life)
