"""Creating and deleting instances: conductors, placements, and hosts that do as they are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import UUID

import pytest

from cirra.agent.v1 import desired_pb2 as agent
from cirra.compute.v1 import compute_pb2 as compute
from cirra.operations.v1.events_pb2 import StepSucceeded
from conductor.compute.actions import State
from conductor.compute.flavor import Flavor
from conductor.hosts.desired_state import DesiredState
from conductor.network.port import Port
from core.errors import NotFound
from core.rpc.context import acting_as
from core.saga.state import SagaStatus
from core.testing.servers import Cell
from placement.hosts.host import Health
from tests.harness.control_plane import ADMIN, PATIENCE_S, PROJECT, ControlPlane, Prepared, control_plane
from tests.harness.fake_host import FakeHost
from tests.harness.invariants import check_invariants
from tests.harness.replicas import WINDOW_S

# Where a host falls silent. The other must not, though the machine is busy.
SHORT_WINDOW_S = 4.0
a_host_falls_silent = pytest.mark.parametrize("window_s", [SHORT_WINDOW_S])


@pytest.fixture
def window_s() -> float:
    """For how long a host may be silent."""
    return WINDOW_S


@pytest.fixture
async def plane(cell: Cell, tmp_path: Path, window_s: float) -> AsyncIterator[ControlPlane]:
    async with control_plane(cell, tmp_path, window_s=window_s) as plane:
        yield plane
        await check_invariants(plane)


@pytest.fixture
async def hosts(plane: ControlPlane) -> list[FakeHost]:
    """Two hosts that take guests."""
    hosts = [await plane.add_host(FakeHost(name, plane.cell)) for name in ("host-1", "host-2")]
    await plane.hosts_are_up("host-1", "host-2")
    return hosts


@pytest.fixture
async def prepared(plane: ControlPlane) -> Prepared:
    return await plane.prepare()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.02)


async def usage(plane: ControlPlane) -> dict[str, int]:
    """What is counted against the project and the hosts."""
    log = plane.repository.log
    found = {f"quota/{name}": await log.counter(f"quota/{name}", PROJECT) for name in ("instances", "vcpus", "ports")}
    found |= {f"{host} vcpus": await log.counter("capacity/vcpus", host) for host in ("host-1", "host-2")}
    return {name: used for name, (used, _) in found.items() if used}


async def usage_is(plane: ControlPlane, condition: Callable[[dict[str, int]], bool]) -> None:
    """Returns once what is counted is so."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition(await usage(plane)):  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.05)


async def nothing_is_left(plane: ControlPlane, hosts: list[FakeHost]) -> None:
    assert [host.domains for host in hosts] == [{}, {}]
    assert [host.ports for host in hosts] == [{}, {}]
    assert await usage(plane) == {}


async def create_active(plane: ControlPlane, prepared: Prepared) -> str:
    accepted = await prepared.create()
    run = await plane.ended(accepted.operation_id)
    assert run.status is SagaStatus.COMPLETED, run.failures
    return accepted.uid


async def test_a_guest_is_built_where_it_was_claimed(
    plane: ControlPlane, hosts: list[FakeHost], prepared: Prepared
) -> None:
    instance = await plane.instance(await create_active(plane, prepared))
    assert instance.active
    assert instance.task_id == ""
    [host] = [host for host in hosts if host.name == instance.host]
    assert host.domains.keys() == {str(instance.id)}
    [power] = {desired.domain.power for desired in host.told if desired.kind == "domain"}
    assert power == agent.DESIRED_POWER_ON
    [nic] = instance.nics
    [port_spec] = host.ports.values()
    assert [each.ip_address for each in port_spec.port.addresses] == [nic.fixed_ip]
    assert (await usage(plane))["quota/instances"] == 1


async def test_the_disk_may_be_made_by_the_creates_own_command_alone(
    plane: ControlPlane, hosts: list[FakeHost], prepared: Prepared
) -> None:
    """Not by what hosts read, though it is the newest wish; nor by a later one."""
    uid = await create_active(plane, prepared)
    instance = await plane.instance(uid)
    assert instance.domain is not None and instance.domain.create
    [host] = [host for host in hosts if host.name == instance.host]
    desired_state = DesiredState(plane.repository.log.pool, f"{plane.cell.name}_conductor", f"{plane.cell.name}_log")

    async def listed(since: int) -> list[agent.DesiredObject]:
        return await desired_state.of_host(host.name, "compute", since)

    async with asyncio.timeout(PATIENCE_S):
        while not await listed(0):  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.02)
    answers = [*await listed(0), *await listed(1)]
    assert [(each.object_id, each.generation, each.create) for each in answers] == [(uid, 1, False)] * 2
    with acting_as(ADMIN):
        stopped = await plane.compute.StopInstance(compute.StopInstanceRequest(name=uid))
    assert (await plane.ended(stopped.operation_id)).status is SagaStatus.COMPLETED
    creating = {desired.generation: desired.create for desired in host.told if desired.kind == "domain"}
    assert creating == {1: True, 2: False}


async def test_a_create_tells_how_long_its_host_took(
    plane: ControlPlane, hosts: list[FakeHost], prepared: Prepared
) -> None:
    async def told() -> str:
        run = await plane.ended((await prepared.create()).operation_id)
        events = await plane.repository.log.read_aggregate(run.id)
        steps = [StepSucceeded.FromString(it.data) for it in events if it.type.endswith(".StepSucceeded")]
        return next(step.detail for step in steps if step.step == "spawn")

    assert await told() == "image downloaded"
    for host in hosts:
        host.effort = agent.Effort(establishing_us=1_540_000, ensuring_us=14_200)
    assert await told() == "image downloaded; disk made in 1.5 s, started in 14 ms"


async def test_a_guest_is_wished_for_once_all_its_ports_are_wired(
    plane: ControlPlane, hosts: list[FakeHost], prepared: Prepared
) -> None:
    accepted = await prepared.create(nics=3)
    assert (await plane.ended(accepted.operation_id)).status is SagaStatus.COMPLETED
    events = [event.type.rpartition(".")[2] for event in await plane.repository.log.read(after=0, limit=10_000)]
    last_wired = len(events) - events[::-1].index("PortBindingObserved")
    assert events.count("PortBindingObserved") == 3
    assert events.index("InstanceDomainDesired") >= last_wired
    bindings = [number for number, event in enumerate(events) if event == "PortBindingDesired"]
    assert max(bindings) < events.index("PortBindingObserved"), "they are wired at the same time"


async def test_a_deleted_guest_leaves_nothing(plane: ControlPlane, hosts: list[FakeHost], prepared: Prepared) -> None:
    uid = await create_active(plane, prepared)
    run = await plane.ended((await prepared.delete(uid)).operation_id)
    assert run.status is SagaStatus.COMPLETED
    instance = await plane.instance(uid)
    assert instance.deleted
    assert (await plane.repository.load(Port, UUID(instance.nics[0].port))).deleted
    await nothing_is_left(plane, hosts)


async def test_a_host_that_cant_build_is_left_for_another(
    plane: ControlPlane, hosts: list[FakeHost], prepared: Prepared
) -> None:
    bad, good = hosts
    bad.failing["domain"] = agent.Failure(reason="DISK_FULL", message="no space", reschedule=True)
    for _ in range(4):  # chosen at random: sooner or later the bad one is tried first
        uid = await create_active(plane, prepared)
        assert (await plane.instance(uid)).host == good.name
    await until(lambda: bad.domains == {} and bad.ports == {})
    assert len(good.domains) == 4
    assert "host-1 vcpus" not in await usage(plane)


async def test_when_no_host_can_the_instance_is_in_error_with_the_cause(
    plane: ControlPlane, hosts: list[FakeHost], prepared: Prepared
) -> None:
    for host in hosts:
        host.failing["domain"] = agent.Failure(reason="DISK_FULL", message="no space", reschedule=True)
    accepted = await prepared.create()
    run = await plane.ended(accepted.operation_id)
    assert run.status is SagaStatus.UNWOUND
    assert run.error is not None
    assert run.error.reason == "NO_VALID_HOST"
    assert "no space" in run.error.message
    assert "not_tried_yet: 2 hosts removed" in run.error.message
    instance = await plane.instance(accepted.uid)
    assert instance.erred
    assert instance.task_id == ""
    assert [host.domains for host in hosts] == [{}, {}]
    assert [host.ports for host in hosts] == [{}, {}]
    assert await usage(plane) == {"quota/instances": 1, "quota/vcpus": 1}
    deleted = await plane.ended((await prepared.delete(accepted.uid)).operation_id)
    assert deleted.status is SagaStatus.COMPLETED
    assert await usage(plane) == {}


async def test_deleting_twice_is_one_delete(plane: ControlPlane, hosts: list[FakeHost], prepared: Prepared) -> None:
    uid = await create_active(plane, prepared)
    first, second = await asyncio.gather(prepared.delete(uid), prepared.delete(uid))
    assert first.operation_id == second.operation_id
    assert (await plane.ended(first.operation_id)).status is SagaStatus.COMPLETED


async def test_the_same_request_is_one_instance(plane: ControlPlane, hosts: list[FakeHost], prepared: Prepared) -> None:
    answers = await asyncio.gather(*(prepared.create(request_id="r-1") for _ in range(4)))
    assert len({answer.uid for answer in answers}) == 1
    assert len({answer.operation_id for answer in answers}) == 1
    await plane.ended(answers[0].operation_id)
    assert (await usage(plane))["quota/instances"] == 1
    # Long after, when what it named is not there any more.
    await plane.repository.change(Flavor, UUID(prepared.flavor_id), Flavor.delete)
    assert await prepared.create(request_id="r-1") == answers[0]
    with pytest.raises(NotFound):
        await prepared.create(request_id="r-2")
    assert (await usage(plane))["quota/instances"] == 1


async def test_another_conductor_finishes_what_a_stopped_one_began(
    plane: ControlPlane, hosts: list[FakeHost], prepared: Prepared
) -> None:
    for host in hosts:
        host.holding["domain"] = asyncio.Event()
    created = [await prepared.create() for _ in range(4)]  # spread over both conductors
    await until(lambda: sum(desired.kind == "domain" for host in hosts for desired in host.told) >= 4)
    await plane.conductors[0].close()
    for host in hosts:
        host.holding["domain"].set()
    runs = [await plane.ended(each.operation_id) for each in created]
    assert {run.status for run in runs} == {SagaStatus.COMPLETED}


@a_host_falls_silent
async def test_a_host_that_is_down_does_not_hold_up_a_delete(
    plane: ControlPlane, hosts: list[FakeHost], prepared: Prepared
) -> None:
    uid = await create_active(plane, prepared)
    host_name = (await plane.instance(uid)).host
    [host] = [host for host in hosts if host.name == host_name]
    await host.stop()
    run = await plane.ended((await prepared.delete(uid)).operation_id)
    assert run.status is SagaStatus.COMPLETED
    # Its capacity is held until it has said that nothing is left.
    assert await usage(plane) == {f"{host_name} vcpus": 1}
    assert host.domains.keys() == {uid}
    await host.start(plane.register_host)
    await usage_is(plane, lambda used: not used)
    await nothing_is_left(plane, hosts)


@a_host_falls_silent
async def test_a_start_on_a_host_that_is_down_says_so_and_is_not_made_up_for(
    plane: ControlPlane, hosts: list[FakeHost], prepared: Prepared
) -> None:
    uid = await create_active(plane, prepared)
    host = next(host for host in hosts if uid in host.domains)
    with acting_as(ADMIN):
        stopped = await plane.compute.StopInstance(compute.StopInstanceRequest(name=uid))
        assert (await plane.ended(stopped.operation_id)).status is SagaStatus.COMPLETED
        await host.stop()
        await plane.host_is(host.name, Health.DOWN)
        refused = await plane.compute.StartInstance(compute.StartInstanceRequest(name=uid))
    run = await plane.ended(refused.operation_id)
    assert run.status is SagaStatus.UNWOUND
    failure = run.failures[0]
    assert (failure.reason, bool(failure.remedy)) == ("HOST_DOWN", True)
    instance = await plane.instance(uid)
    assert (instance.state, instance.task_id) == (State.SHUTOFF, "")
    assert instance.domain is not None and instance.domain.domain.power == agent.DESIRED_POWER_OFF


@a_host_falls_silent
async def test_a_host_that_dies_in_its_step_is_left_for_another_and_cleaned_when_it_returns(
    plane: ControlPlane, hosts: list[FakeHost], prepared: Prepared
) -> None:
    for host in hosts:
        host.holding["domain"] = asyncio.Event()
    created = await prepared.create()
    await until(lambda: any(desired.kind == "domain" for host in hosts for desired in host.told))
    [dying] = [host for host in hosts if any(desired.kind == "domain" for desired in host.told)]
    [other] = [host for host in hosts if host is not dying]
    other.holding.clear()
    await dying.stop()
    run = await plane.ended(created.operation_id)
    assert run.status is SagaStatus.COMPLETED, run.failures
    assert run.failures[0].reason == "HOST_DOWN"
    assert (await plane.instance(created.uid)).host == other.name
    assert (await usage(plane))[f"{dying.name} vcpus"] == 1
    dying.holding.clear()
    await dying.start(plane.register_host)
    await usage_is(plane, lambda used: f"{dying.name} vcpus" not in used)
    assert (dying.domains, dying.ports) == ({}, {})
    assert other.domains.keys() == {created.uid}
