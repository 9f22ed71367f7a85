"""What is done to instances that are there, by the public API: power, names and labels, locks; and what is refused."""

from __future__ import annotations

import asyncio

import pytest

from cirra.agent.v1 import desired_pb2 as agent
from cirra.compute.v1 import compute_pb2 as compute
from cirra_sdk.errors import Conflict, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from tests.harness.cloud import Cloud, Parts, Standing, Tenant
from tests.harness.control_plane import PATIENCE_S
from tests.harness.fake_host import FakeHost
from tests.integration.acceptance.refusals import check_refusal, refused

pytestmark = pytest.mark.asyncio(loop_scope="module")


def host_of(cloud: Cloud, uid: str) -> FakeHost:
    [host] = [host for host in cloud.hosts if uid in host.domains]
    return host


async def done(tenant: Tenant, beginning: object) -> compute.Instance:
    """The instance once the operation has succeeded."""
    operation = await beginning  # type: ignore[misc]
    await tenant.client.operations.wait(operation, timeout_s=PATIENCE_S)
    return await tenant.client.instances.get(operation.target)


async def shuts_itself_down(cloud: Cloud, tenant: Tenant, uid: str) -> compute.Instance:
    """The guest ends; its agent says so. Answers the instance once that is read."""
    host = host_of(cloud, uid)
    report = agent.Report(kind="domain", generation=host.domains[uid].generation)
    report.domain.state = agent.DOMAIN_STATE_SHUTOFF
    await host._report("compute", report, "DomainObserved", uid)
    async with asyncio.timeout(PATIENCE_S):
        async for change in tenant.client.instances.watch(uid):
            if change.instance.status == compute.INSTANCE_STATUS_SHUTOFF:
                break
    return change.instance


async def test_stopped_and_started_again_on_its_host(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    booted = await tenant.boot(parts)
    host = host_of(cloud, booted.uid)
    stopped = await done(tenant, tenant.client.instances.stop(booted))
    assert (stopped.status, stopped.power_state) == (compute.INSTANCE_STATUS_SHUTOFF, compute.POWER_STATE_SHUTDOWN)
    assert (stopped.task_state, host.domains[booted.uid].domain.power) == ("", agent.DESIRED_POWER_OFF)
    usage = await tenant.usage()
    started = await done(tenant, tenant.client.instances.start(booted))
    assert (started.status, started.power_state) == (compute.INSTANCE_STATUS_ACTIVE, compute.POWER_STATE_RUNNING)
    assert host_of(cloud, booted.uid) is host
    assert (await tenant.usage(), started.launch_time, started.nics[0].fixed_ip) == (
        usage,
        booted.launch_time,
        booted.nics[0].fixed_ip,
    )


async def test_a_task_state_says_what_goes_on(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    booted = await tenant.boot(parts)
    host_of(cloud, booted.uid).holding["domain"] = gate = asyncio.Event()
    operation = await tenant.client.instances.stop(booted)
    seen = await tenant.client.instances.get(booted.uid)
    assert (seen.status, seen.task_state) == (compute.INSTANCE_STATUS_ACTIVE, "powering-off")
    with pytest.raises(FailedPrecondition) as busy:
        await tenant.client.instances.reboot(booted)
    check_refusal(busy.value, FailedPrecondition, "INSTANCE_BUSY", says="wait until its task state is empty")
    gate.set()
    await tenant.client.operations.wait(operation, timeout_s=PATIENCE_S)


@pytest.mark.parametrize("hard", [False, True], ids=["soft", "hard"])
async def test_each_reboot_is_one_boot_more(cloud: Cloud, tenant: Tenant, parts: Parts, hard: bool) -> None:
    booted = await tenant.boot(parts)
    for boots in (1, 2):
        rebooted = await done(tenant, tenant.client.instances.reboot(booted, hard=hard))
        assert (rebooted.status, rebooted.task_state) == (compute.INSTANCE_STATUS_ACTIVE, "")
        spec = host_of(cloud, booted.uid).domains[booted.uid].domain
        assert (spec.boot, spec.hard_boot, spec.power) == (boots, hard, agent.DESIRED_POWER_ON)


async def test_the_same_request_reboots_once(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    booted = await tenant.boot(parts)
    first = await tenant.client.instances.reboot(booted, request_id="once")
    again = await tenant.client.instances.reboot(booted, request_id="once")
    assert first.uid == again.uid
    await tenant.client.operations.wait(first, timeout_s=PATIENCE_S)
    assert host_of(cloud, booted.uid).domains[booted.uid].domain.boot == 1


async def test_a_hard_reboot_defines_anew_what_was_renamed(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    booted = await tenant.boot(parts, "before")
    await tenant.client.instances.update(booted, display_name="after")
    await done(tenant, tenant.client.instances.reboot(booted, hard=True))
    spec = host_of(cloud, booted.uid).domains[booted.uid].domain
    assert (spec.display_name, spec.hostname) == ("after", "before")


async def test_a_guest_that_shuts_itself_down_is_shutoff_and_can_be_started(
    cloud: Cloud, tenant: Tenant, parts: Parts
) -> None:
    booted = await tenant.boot(parts)
    off = await shuts_itself_down(cloud, tenant, booted.uid)
    assert off.power_state == compute.POWER_STATE_SHUTDOWN
    generation = host_of(cloud, booted.uid).domains[booted.uid].generation
    started = await done(tenant, tenant.client.instances.start(booted))
    assert started.status == compute.INSTANCE_STATUS_ACTIVE
    assert host_of(cloud, booted.uid).domains[booted.uid].generation > generation


async def test_a_stop_that_its_host_cant_do_leaves_it_active(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    booted = await tenant.boot(parts)
    host = host_of(cloud, booted.uid)
    host.failing["domain"] = agent.Failure(reason="DOMAIN_FAILED", message="it does not listen", remedy="try again")
    failed = await tenant.ended(await tenant.client.instances.stop(booted))
    assert (failed.error.reason, failed.error.remedy) == ("DOMAIN_FAILED", "try again")
    seen = await tenant.client.instances.get(booted.uid)
    assert (seen.status, seen.task_state) == (compute.INSTANCE_STATUS_ACTIVE, "")
    host.failing.clear()
    assert (await done(tenant, tenant.client.instances.stop(booted))).status == compute.INSTANCE_STATUS_SHUTOFF


async def test_what_is_stopped_can_be_deleted(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    booted = await tenant.boot(parts)
    await done(tenant, tenant.client.instances.stop(booted))
    await tenant.client.operations.wait(await tenant.client.instances.delete(booted), timeout_s=PATIENCE_S)
    assert (await tenant.usage()).get("instances", 0) == 0


async def test_a_delete_ends_a_stop_that_is_under_way(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    booted = await tenant.boot(parts)
    host = host_of(cloud, booted.uid)
    host.holding["domain"] = gate = asyncio.Event()
    stopping = await tenant.client.instances.stop(booted)
    deleting = await tenant.client.instances.delete(booted)
    assert (await tenant.ended(stopping)).done
    gate.set()
    await tenant.client.operations.wait(deleting, timeout_s=PATIENCE_S)
    assert booted.uid not in host.domains


@pytest.mark.parametrize("hard", [False, True], ids=["soft", "hard"])
async def test_a_stop_during_a_reboot(cloud: Cloud, tenant: Tenant, parts: Parts, hard: bool) -> None:
    booted = await tenant.boot(parts)
    host_of(cloud, booted.uid).holding["domain"] = gate = asyncio.Event()
    operation = await tenant.client.instances.reboot(booted, hard=hard)
    async with refused(cloud, FailedPrecondition, "INSTANCE_BUSY", says="wait until its task state is empty"):
        await tenant.client.instances.stop(booted)
    gate.set()
    await tenant.client.operations.wait(operation, timeout_s=PATIENCE_S)
    assert (await done(tenant, tenant.client.instances.stop(booted))).status == compute.INSTANCE_STATUS_SHUTOFF


async def test_out_of_error_by_a_hard_reboot(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    """Its host says that it can't keep the guest as it shall be; then it can."""
    booted = await tenant.boot(parts)
    host = host_of(cloud, booted.uid)
    report = agent.Report(kind="domain", generation=host.domains[booted.uid].generation)
    report.failure.CopyFrom(agent.Failure(reason="DISK_MISSING", message="it is not there", remedy="mount it"))
    await host._report("compute", report, "DomainObserved", booted.uid)
    async with asyncio.timeout(PATIENCE_S):
        async for change in tenant.client.instances.watch(booted.uid):
            if change.instance.status == compute.INSTANCE_STATUS_ERROR:
                break
    assert change.instance.fault.reason == "DISK_MISSING"
    for act in (tenant.client.instances.reboot, tenant.client.instances.start):
        async with refused(cloud, FailedPrecondition, "INVALID_STATUS", says="reboot it with --hard"):
            await act(booted)
    rebooted = await done(tenant, tenant.client.instances.reboot(booted, hard=True))
    assert (rebooted.status, rebooted.HasField("fault")) == (compute.INSTANCE_STATUS_ACTIVE, False)


@pytest.mark.parametrize(("action", "remedy"), [("start", "it runs already"), ("stop", "off already")])
async def test_power_that_is_so_already(cloud: Cloud, tenant: Tenant, parts: Parts, action: str, remedy: str) -> None:
    booted = await tenant.boot(parts)
    if action == "stop":
        await done(tenant, tenant.client.instances.stop(booted))
    async with refused(cloud, FailedPrecondition, "INVALID_STATUS", says=remedy):
        await getattr(tenant.client.instances, action)(booted)


async def test_names_and_labels(tenant: Tenant, parts: Parts) -> None:
    booted = await tenant.boot(parts, "old", metadata={"role": "db", "tier": "1"}, tags=["a"])
    changed = await tenant.client.instances.update(
        booted, display_name="new", metadata={"tier": "2"}, without=["role"], tags=["b", "c"], etag=booted.etag
    )
    assert (changed.display_name, changed.hostname) == ("new", "old")
    assert (dict(changed.metadata), [*changed.tags]) == ({"tier": "2"}, ["b", "c"])
    assert changed.etag != booted.etag
    named = [instance.uid async for instance in tenant.client.instances.list(display_name="new")]
    assert named == [booted.uid]


async def test_an_etag_that_is_old(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    booted = await tenant.boot(parts)
    await tenant.client.instances.update(booted, tags=["first"], etag=booted.etag)
    async with refused(cloud, Conflict, "ETAG_MISMATCH", says="read it again"):
        await tenant.client.instances.update(booted, tags=["second"], etag=booted.etag)
    assert [*(await tenant.client.instances.get(booted.uid)).tags] == ["first"]


async def test_of_two_updates_with_one_etag_one_is_made(tenant: Tenant, parts: Parts) -> None:
    booted = await tenant.boot(parts)
    both = await asyncio.gather(
        *(tenant.at(gateway).instances.update(booted, tags=[f"t{gateway}"], etag=booted.etag) for gateway in (0, 1)),
        return_exceptions=True,
    )
    assert sorted(type(one).__name__ for one in both) == ["Conflict", "Instance"]


@pytest.mark.parametrize(
    ("field", "wanted"),
    [
        ("update_mask", {}),
        ("instance.display_name", {"display_name": ""}),
        ("instance.tags[0]", {"tags": ["a,b"]}),
        ("instance.metadata['']", {"metadata": {"": "x"}}),
    ],
)
async def test_updates_that_say_nothing_or_too_much(
    cloud: Cloud, tenant: Tenant, parts: Parts, field: str, wanted: dict[str, object]
) -> None:
    booted = await tenant.boot(parts)
    async with refused(cloud, InvalidArgument, "INVALID_ARGUMENT", field):
        await tenant.client.instances.update(booted, **wanted)  # type: ignore[arg-type]


async def test_a_locked_instance_is_acted_on_by_administrators_alone(
    cloud: Cloud, tenant: Tenant, parts: Parts
) -> None:
    booted = await tenant.boot(parts)
    locked = await tenant.client.instances.lock(booted, "the auditors look at it")
    assert (locked.locked, locked.locked_reason) == (True, "the auditors look at it")
    acts = tenant.client.instances
    for act in (acts.stop, acts.reboot, acts.delete, lambda it: acts.update(it, tags=["x"])):
        async with refused(cloud, FailedPrecondition, "INSTANCE_LOCKED", says="auditors"):
            await act(booted)
    cloud.admin._transport.memory.saw(tenant.client.position)
    operation = await cloud.admin.instances.stop(booted.name)
    await cloud.admin.operations.wait(operation, timeout_s=PATIENCE_S)
    tenant.catch_up()
    unlocked = await tenant.client.instances.unlock(booted)
    assert (unlocked.locked, unlocked.locked_reason) == (False, "")
    assert (await done(tenant, tenant.client.instances.start(booted))).status == compute.INSTANCE_STATUS_ACTIVE


async def test_what_an_administrator_has_locked(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    booted = await tenant.boot(parts)
    cloud.admin._transport.memory.saw(tenant.client.position)
    await cloud.admin.instances.lock(booted.name)
    tenant.catch_up()
    async with refused(cloud, PermissionDenied, "PERMISSION_DENIED", says="ask an administrator"):
        await tenant.client.instances.unlock(booted)
    assert not (await cloud.admin.instances.unlock(booted.name)).locked


async def test_other_projects_act_on_nothing(cloud: Cloud, standing: Standing, tenant: Tenant, parts: Parts) -> None:
    booted = await tenant.boot(parts)
    acts = standing.tenant.client.instances
    for act in (acts.start, acts.stop, acts.reboot, acts.lock, acts.unlock, lambda it: acts.update(it, tags=["x"])):
        async with refused(cloud, NotFound, "NOT_FOUND", booted.uid):
            await act(booted.name)
