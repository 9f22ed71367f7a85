"""A saga stands still because a host refuses to clean up: what its user sees, and what an operator does about it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
import yaml

from cirra.agent.v1 import desired_pb2 as agent
from cirra.compute.v1 import compute_pb2 as compute
from cirra.operations.v1 import operations_pb2 as operations
from cirra_sdk.errors import FailedPrecondition, InvalidArgument, OperationFailed, PermissionDenied
from core.ids import last_segment
from tests.harness.cloud import Cloud, Parts, Tenant
from tests.harness.control_plane import PATIENCE_S
from tests.harness.replicas import ADMIN_PASSWORD
from tests.harness.stages import reconcile
from tests.integration.acceptance.refusals import refused

pytestmark = pytest.mark.asyncio(loop_scope="module")

COMMAND = Path(sys.executable).with_name("cirra")


async def until(look: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await look():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.05)


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def hosts_that_look(cloud: Cloud) -> AsyncIterator[None]:
    """After each test they answer again, and do what is desired by then: what was given up goes from them."""
    yield
    cloud.reset_hosts()

    async def nothing_there() -> bool:
        await reconcile(cloud.plane, cloud.hosts)
        wanted = [each async for each in cloud.admin.instances.list(all_projects=True) if each.host]
        guests, ports = {each.uid for each in wanted}, {last_segment(nic.port) for each in wanted for nic in each.nics}
        return all(set(host.domains) <= guests and set(host.ports) <= ports for host in cloud.hosts)

    await until(nothing_there)


async def stuck_create(cloud: Cloud, tenant: Tenant, parts: Parts) -> operations.Operation:
    """No host can build, and none removes what it has begun."""
    for host in cloud.hosts:
        host.failing["domain"] = agent.Failure(reason="DISK_FULL", message="no space")
        host.failing_removal["domain"] = agent.Failure(
            reason="DISK_BUSY", message="the disk is held by another process", remedy="see who holds it: lsof"
        )
    operation = await tenant.create(parts, "web")
    with pytest.raises(OperationFailed, match="held by another process"):
        await tenant.client.operations.wait(operation, timeout_s=PATIENCE_S)
    return await tenant.client.operations.get(operation.name)


async def test_what_is_told_of_it(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    operation = await stuck_create(cloud, tenant, parts)
    stuck = operation.stuck
    assert (operation.state, operation.done) == (operations.OPERATION_STATE_STUCK, False)
    assert (stuck.step, stuck.undoing, stuck.host, stuck.tries, stuck.retries) == (
        "spawn",
        True,
        operation.error.host,
        1,
        0,
    )
    assert (stuck.error.reason, stuck.error.remedy) == ("DISK_BUSY", "see who holds it: lsof")
    assert operation.error.reason == "DISK_FULL", "the cause is not forgotten"
    instance = await tenant.client.instances.get(operation.target)
    assert (instance.status, instance.fault.reason) == (compute.INSTANCE_STATUS_ERROR, "OPERATION_STUCK")
    assert operation.uid in instance.fault.remedy


async def test_retried_in_vain_and_then_with_success(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    operation = await stuck_create(cloud, tenant, parts)
    admin = cloud.admin.operations
    await admin.retry(operation, "just so")

    async def stuck_again() -> bool:
        found = await admin.get(operation.name)
        return found.state == operations.OPERATION_STATE_STUCK and found.stuck.retries == 1

    await until(stuck_again)
    again = (await admin.get(operation.name)).stuck
    assert (again.tries, again.since) == (2, operation.stuck.since)
    cloud.reset_hosts()
    await admin.retry(operation, "the disk is free")
    ended = await tenant.ended(operation)
    assert (ended.state, ended.error.reason) == (operations.OPERATION_STATE_FAILED, "DISK_FULL")
    assert not ended.HasField("stuck")
    instance = await tenant.client.instances.get(operation.target)
    assert (instance.status, instance.fault.reason) == (compute.INSTANCE_STATUS_ERROR, "DISK_FULL")
    with pytest.raises(FailedPrecondition) as refusal:
        await admin.retry(operation)
    assert (refusal.value.reason, bool(refusal.value.remedy)) == ("OPERATION_NOT_STUCK", True)
    assert [host.domains for host in cloud.hosts] == [{}, {}]


async def test_the_same_retry_is_answered_again(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    operation = await stuck_create(cloud, tenant, parts)
    cloud.reset_hosts()
    first = await cloud.admin.operations.retry(operation, request_id="retry-1")
    second = await cloud.admin.operations.retry(operation, request_id="retry-1")
    assert (first.uid, second.uid) == (operation.uid, operation.uid)
    await tenant.ended(operation)


async def test_given_up_its_instance_can_be_deleted_and_what_is_left_is_told(
    cloud: Cloud, tenant: Tenant, parts: Parts
) -> None:
    operation = await stuck_create(cloud, tenant, parts)
    host = operation.stuck.host
    with pytest.raises(InvalidArgument, match="reason"):
        await cloud.admin.operations.resolve(operation, " ")
    ended = await cloud.admin.operations.resolve(operation, "the host is scrap")
    assert (ended.state, ended.done) == (operations.OPERATION_STATE_FAILED, True)
    assert ended.resolution.reason == "the host is scrap"
    assert any(left.startswith(f"{host}: guest ") for left in ended.resolution.left), ended.resolution.left
    tenant.catch_up()
    instance = await tenant.client.instances.get(operation.target)
    assert (instance.status, instance.task_state) == (compute.INSTANCE_STATUS_ERROR, "")
    assert instance.fault.reason == "DISK_FULL" and "gave it up" in instance.fault.message
    deleted = await tenant.ended(await tenant.client.instances.delete(instance))
    assert deleted.state == operations.OPERATION_STATE_SUCCEEDED
    assert not {"instances", "vcpus", "ports"} & (await tenant.usage()).keys()


async def test_a_delete_that_waits_for_it_goes_on_afterwards(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    create = await stuck_create(cloud, tenant, parts)
    delete = await tenant.client.instances.delete(create.target)
    with pytest.raises(OperationFailed) as waited:
        await tenant.client.operations.wait(delete, timeout_s=PATIENCE_S)
    assert waited.value.reason == "SAGA_STUCK"
    with pytest.raises(FailedPrecondition) as refusal:
        await cloud.admin.operations.resolve(delete, "why not")
    assert refusal.value.reason == "OTHER_OPERATION_FIRST" and create.uid in refusal.value.remedy
    await cloud.admin.operations.resolve(create, "the host is scrap")
    await cloud.admin.operations.retry(delete)
    assert (await tenant.ended(delete)).state == operations.OPERATION_STATE_SUCCEEDED


async def test_a_cancelled_create_is_in_error_and_says_so(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    for host in cloud.hosts:
        host.holding["domain"] = asyncio.Event()
    operation = await tenant.create(parts, "web")
    await cloud.admin.operations.cancel(operation, "ordered twice")
    cloud.reset_hosts()
    ended = await tenant.ended(operation)
    assert (ended.state, ended.error.reason) == (operations.OPERATION_STATE_FAILED, "CANCELLED")
    instance = await tenant.client.instances.get(operation.target)
    assert instance.status == compute.INSTANCE_STATUS_ERROR
    assert instance.fault.message == "cancelled on request: ordered twice"
    with pytest.raises(FailedPrecondition) as refusal:
        await cloud.admin.operations.cancel(operation)
    assert refusal.value.reason == "OPERATION_DONE"


async def test_it_is_an_administrator_s_work(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    operation = await tenant.ended(await tenant.create(parts, "web"))
    client = tenant.client.operations
    for call in (client.retry(operation), client.resolve(operation, "why"), client.cancel(operation)):
        async with refused(cloud, PermissionDenied, "ROLE_MISSING", says="needs the role of administrator"):
            await call


async def test_the_newest_operations_come_first(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    made = [(await tenant.ended(await tenant.create(parts, f"web-{number}"))).uid for number in range(3)]
    found = [each.uid async for each in tenant.client.operations.list(page_size=2)]
    assert found == made[::-1]


# --- on the command line


@dataclass(frozen=True)
class Printed:
    stdout: str
    stderr: str
    code: int


Cirra = Callable[..., Awaitable[Printed]]


@pytest.fixture
def cirra(cloud: Cloud, tmp_path: Path) -> Cirra:
    """Runs the command as the administrator."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CIRRA_", "XDG_"))}
    (tmp_path / ".config" / "cirra").mkdir(parents=True)
    profile = {"user": "admin", "password": ADMIN_PASSWORD, "project": "admin"}
    profile["endpoint"] = f"http://{cloud.plane.gateway_addresses[0]}"
    (tmp_path / ".config" / "cirra" / "clouds.yaml").write_text(yaml.safe_dump({"clouds": {"here": profile}}))

    async def run(*arguments: str) -> Printed:
        process = await asyncio.create_subprocess_exec(
            COMMAND,
            "--cloud",
            "here",
            *arguments,
            env={**kept, "HOME": str(tmp_path)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        stdout, stderr = await process.communicate()
        assert process.returncode is not None
        return Printed(stdout.decode(), stderr.decode(), process.returncode)

    return run


async def test_an_operator_at_night(cloud: Cloud, tenant: Tenant, parts: Parts, cirra: Cirra) -> None:
    operation = await stuck_create(cloud, tenant, parts)
    listed = await cirra("saga", "list", "--stuck")
    assert (listed.code, listed.stderr) == (0, "")
    [line] = [line for line in listed.stdout.splitlines() if operation.uid in line]
    for word in ("instance-create", "undo of spawn", operation.stuck.host, "DISK_BUSY", "held by another process"):
        assert word in line
    shown = await cirra("saga", "show", operation.uid)
    for word in ("since", "tried 1x", "remedy: see who holds it: lsof", f"cirra operation retry {operation.uid}"):
        assert word in shown.stdout, shown.stdout
    assert (await cirra("saga", "resolve", operation.uid)).code == 2, "a reason must be given"
    resolved = await cirra("saga", "resolve", operation.uid, "--reason", "the host is scrap")
    assert "left to you:" in resolved.stdout and operation.stuck.host in resolved.stdout
    after = await cirra("saga", "list", "--stuck", "-o", "json")
    assert operation.uid not in [each["uid"] for each in json.loads(after.stdout)]
    again = await cirra("saga", "retry", operation.uid)
    assert (again.code, again.stdout) == (1, "") and "nothing is left to do" in again.stderr


async def test_saga_is_operation(cirra: Cirra) -> None:
    assert (await cirra("saga", "list", "-o", "json")).stdout == (await cirra("operation", "list", "-o", "json")).stdout
