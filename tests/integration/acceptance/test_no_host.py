"""When no host fits: instance and operation tell how many hosts each filter removed, and only a quota is held."""

from __future__ import annotations

import pytest

from cirra.agent.v1 import desired_pb2 as agent
from cirra.compute.v1 import compute_pb2 as compute
from cirra.operations.v1 import operations_pb2 as operations
from tests.harness.cloud import HOSTS, Cloud, Parts, Tenant
from tests.harness.leftovers import all_given_back

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def fault_of(tenant: Tenant, operation: operations.Operation) -> compute.Fault:
    """Of the instance of a create that found no host; its operation tells the same."""
    ended = await tenant.ended(operation)
    assert ended.state == operations.OPERATION_STATE_FAILED
    instance = await tenant.client.instances.get(operation.target)
    assert (instance.status, instance.task_state) == (compute.INSTANCE_STATUS_ERROR, "")
    fault = instance.fault
    assert (fault.reason, fault.message, fault.remedy) == (
        ended.error.reason,
        ended.error.message,
        ended.error.remedy,
    )
    assert fault.reason == "NO_VALID_HOST"
    assert fault.remedy
    return fault


async def delete(tenant: Tenant, name: str) -> None:
    await tenant.client.operations.wait(await tenant.client.instances.delete(name), timeout_s=120)
    assert await tenant.usage() == {"networks": 1}


@pytest.mark.parametrize(
    ("filter_name", "flavor"),
    [
        ("vcpus", {"vcpus": 512}),
        ("memory_mib", {"memory_mib": 16 * 1024 * 1024}),
        ("disk_gib", {"disk_gib": 64 * 1024}),
    ],
)
async def test_too_large_for_every_host(cloud: Cloud, filter_name: str, flavor: dict[str, int]) -> None:
    tenant = await cloud.tenant({"vcpus": -1, "memory_mib": -1})
    parts = await tenant.prepare()
    giant = await cloud.flavor(**flavor)
    tenant.catch_up()
    async with all_given_back(cloud):
        operation = await tenant.create(parts, flavor=giant)
        fault = await fault_of(tenant, operation)
        assert f"{filter_name}: {len(HOSTS)} hosts removed" in fault.message
        assert "at most" in fault.message and "free" in fault.message
        # What is visible is counted; its port and its claim are not there any more.
        assert (await tenant.usage()).keys() == {"instances", "vcpus", "memory_mib", "networks"}
        assert [port async for port in tenant.client.ports.list()] == []
        await delete(tenant, operation.target)


async def test_hosts_that_an_operator_has_disabled(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    async with all_given_back(cloud):
        for name in HOSTS:
            await cloud.admin.hosts.disable(name, "moves to another rack")
        try:
            operation = await tenant.create(parts)
            assert "compute_enabled: 2 hosts removed" in (await fault_of(tenant, operation)).message
        finally:
            for name in HOSTS:
                await cloud.admin.hosts.enable(name)
        await delete(tenant, operation.target)
        await tenant.boot(parts, "afterwards")
        await delete(tenant, "afterwards")


async def test_each_filter_counts_its_own(cloud: Cloud, parts: Parts, tenant: Tenant) -> None:
    await cloud.admin.hosts.disable(HOSTS[0], "a disk is broken")
    try:
        await cloud.admin.quotas.set(tenant.project, {"vcpus": -1})
        giant = await cloud.flavor(vcpus=512)
        tenant.catch_up()
        operation = await tenant.create(parts, flavor=giant)
        message = (await fault_of(tenant, operation)).message
        assert "compute_enabled: 1 host removed" in message
        assert "vcpus: 1 host removed" in message
    finally:
        await cloud.admin.hosts.enable(HOSTS[0])
    await delete(tenant, operation.target)


async def test_hosts_that_could_not_build_it_are_told(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    for host in cloud.hosts:
        host.failing["domain"] = agent.Failure(reason="DISK_FULL", message="no space", reschedule=True)
    async with all_given_back(cloud):
        operation = await tenant.create(parts)
        fault = await fault_of(tenant, operation)
        assert all(f"DISK_FULL: {name}: no space" in fault.message for name in HOSTS)
        assert "not_tried_yet: 2 hosts removed" in fault.message
        await delete(tenant, operation.target)


async def test_a_hostless_instance_is_seen_by_its_project_alone(cloud: Cloud) -> None:
    tenant = await cloud.tenant({"vcpus": -1})
    parts = await tenant.prepare()
    giant = await cloud.flavor(vcpus=512)
    tenant.catch_up()
    operation = await tenant.create(parts, "lost", flavor=giant)
    await fault_of(tenant, operation)
    stranger = await cloud.tenant()
    assert [instance async for instance in stranger.client.instances.list()] == []
    await delete(tenant, "lost")
