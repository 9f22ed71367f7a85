"""What a client reads: its own writes through any gateway, what was true earlier, each change, how it came about."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, TypeVar

import pytest

from cirra.compute.v1 import compute_pb2 as compute
from cirra.events.v1 import events_pb2 as events
from cirra.operations.v1 import operations_pb2 as operations
from cirra_sdk import AsyncClient
from cirra_sdk.errors import NotFound
from tests.harness.cloud import Cloud, Parts, Tenant

pytestmark = pytest.mark.asyncio(loop_scope="module")

TIMES = 50
TIMEOUT_S = 120.0
STEPS = ["accept", "allocate_port", "claim_host", "bind_port", "spawn", "activate"]
T = TypeVar("T")


def _hand_over(tenant: Tenant, to_gateway: int) -> AsyncClient:
    """The client of another gateway, which is told how much of the log the first one has seen."""
    client = tenant.at(to_gateway)
    tenant.catch_up()
    return client


async def test_what_one_gateway_wrote_the_other_reads(tenant: Tenant) -> None:
    for number in range(TIMES):
        image = await tenant.at(0).images.create(f"image-{number}")
        assert await _hand_over(tenant, 1).images.get(image) == image
        await tenant.at(1).images.delete(image)
        with pytest.raises(NotFound):
            await _hand_over(tenant, 0).images.get(image)


async def test_lists_and_names_are_as_new(tenant: Tenant) -> None:
    await tenant.cloud.admin.quotas.set(tenant.project, {"networks": -1})
    tenant.catch_up()
    made = []
    for number in range(TIMES):
        writer, reader = number % 2, (number + 1) % 2
        made.append((await tenant.at(writer).networks.create(f"lan-{number}")).uid)
        client = _hand_over(tenant, reader)
        assert (await client.networks.get(f"lan-{number}")).uid == made[-1]
        assert [network.uid async for network in client.networks.list()] == made


async def test_who_waited_for_an_operation_reads_what_it_did(tenant: Tenant, parts: Parts) -> None:
    for number in range(5):
        operation = await tenant.create(parts, f"web-{number}")
        client = _hand_over(tenant, 1)
        await client.operations.wait(operation, timeout_s=TIMEOUT_S)
        for reader in (client, _hand_over(tenant, 0)):
            instance = await reader.instances.get(operation.target)
            assert (instance.status, instance.task_state) == (compute.INSTANCE_STATUS_ACTIVE, "")
            assert instance.power_state == compute.POWER_STATE_RUNNING


async def test_as_of_earlier(tenant: Tenant, parts: Parts) -> None:
    instance = await tenant.boot(parts)
    deleting = await tenant.client.instances.delete(instance)
    await tenant.client.operations.wait(deleting, timeout_s=TIMEOUT_S)
    happened = {
        event.type.rpartition(".")[2]: event.time.ToDatetime(UTC)
        async for event in tenant.client.events.list(resource=instance)
    }

    async def at(moment: datetime) -> compute.Instance:
        return await tenant.client.instances.get(instance.name, as_of=moment)

    created = await at(happened["InstanceCreated"])
    assert (created.status, created.task_state) == (compute.INSTANCE_STATUS_BUILD, "instance-create")
    assert created.nics[0].fixed_ip == instance.nics[0].fixed_ip
    claimed = await at(happened["InstanceHostAssigned"])
    assert (claimed.status, claimed.virt_type) == (compute.INSTANCE_STATUS_BUILD, "simulated")
    active = await at(happened["InstanceActivated"])
    assert active.status == compute.INSTANCE_STATUS_ACTIVE
    assert active.launch_time == instance.launch_time
    for gone in (happened["InstanceDeleted"], datetime.fromtimestamp(0, UTC)):
        with pytest.raises(NotFound):
            await at(gone)


async def _until(stream: AsyncGenerator[T, None], is_last: Any) -> list[T]:
    """What the stream says up to the first that is the last one wanted."""
    seen: list[T] = []
    async with asyncio.timeout(TIMEOUT_S), aclosing(stream):
        async for item in stream:
            seen.append(item)
            if is_last(item):
                break
    return seen


async def test_watching_a_project(tenant: Tenant, parts: Parts) -> None:
    before = await tenant.boot(parts, "before")
    watching = tenant.client.instances.watch()
    present = await anext(watching)
    assert present.instance == before
    operation = await tenant.create(parts, "after")
    seen = await _until(watching, lambda each: each.instance.status == compute.INSTANCE_STATUS_ACTIVE)
    assert {each.instance.name for each in seen} == {operation.target}
    positions = [present.position, *(each.position for each in seen)]
    assert positions == sorted(set(positions)), "each change once, in order"
    statuses = [each.instance.status for each in seen]
    assert statuses == [*[compute.INSTANCE_STATUS_BUILD] * (len(seen) - 1), compute.INSTANCE_STATUS_ACTIVE]
    assert seen[0].instance.nics[0].fixed_ip == seen[-1].instance.nics[0].fixed_ip != ""


async def test_watching_one_instance_to_its_end_at_both_gateways(tenant: Tenant, parts: Parts) -> None:
    instance = await tenant.boot(parts, "one")
    await tenant.boot(parts, "another")
    watching = [_hand_over(tenant, gateway).instances.watch(instance) for gateway in (0, 1)]
    assert [(await anext(each)).instance for each in watching] == [instance, instance]
    await tenant.client.instances.delete(instance)
    for seen in await asyncio.gather(*(_until(each, lambda change: change.deleted) for each in watching)):
        assert {each.instance.uid for each in seen} == {instance.uid}
        assert seen[0].instance.task_state == "instance-delete"
        assert seen[-1].instance.status == compute.INSTANCE_STATUS_DELETED
        assert [each.deleted for each in seen] == [*[False] * (len(seen) - 1), True]


async def test_watching_an_operation(tenant: Tenant, parts: Parts) -> None:
    operation = await tenant.create(parts)
    seen = await _until(tenant.at(1).operations.watch(operation), lambda each: each.done)
    assert seen[-1].state == operations.OPERATION_STATE_SUCCEEDED
    assert [step.step for step in seen[-1].steps] == STEPS
    assert all(step.state == operations.STEP_STATE_SUCCEEDED for step in seen[-1].steps)
    ended = [sum(step.HasField("end_time") for step in each.steps) for each in seen]
    assert ended == sorted(ended)
    assert await _hand_over(tenant, 0).operations.get(operation) == seen[-1]


async def test_the_timeline_of_a_create(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    instance = await tenant.boot(parts)
    timeline = await _hand_over(tenant, 1).timeline.get(instance)
    steps = [entry for entry in timeline.entries if entry.title in STEPS]
    assert [entry.title for entry in steps] == STEPS
    assert all(entry.duration_ms > 0 for entry in steps if entry.title in ("claim_host", "bind_port", "spawn"))
    assert not any(entry.failed for entry in timeline.entries)
    positions = [entry.position for entry in timeline.entries]
    assert positions == sorted(positions)
    offsets = [entry.offset_ms for entry in timeline.entries]
    assert offsets == sorted(offsets)
    sources = {entry.source.partition("@")[0] for entry in timeline.entries}
    assert sources == {"conductor", "placement", "compute-agent", "net-agent"}
    assert len(timeline.trace_id) == 32
    assert await _trace_ids(tenant.client, instance) == {timeline.trace_id}


async def _trace_ids(client: AsyncClient, instance: compute.Instance) -> set[str]:
    """Of all that happened while it was created, to it, its port and by its saga."""
    [operation] = [each async for each in client.operations.list(target=instance)]
    found: list[events.Event] = []
    for resource in (instance.name, instance.nics[0].port, operation.name):
        found += [event async for event in client.events.list(resource=resource)]
    return {event.traceparent.split("-")[1] for event in found}


async def test_events_are_watched_without_a_gap(tenant: Tenant, parts: Parts) -> None:
    first = await tenant.boot(parts)
    listed = [event.position async for event in tenant.client.events.list()]
    watching = tenant.at(1).events.watch(after_position=listed[0] - 1)
    seen = await _until(watching, lambda event: event.position >= listed[-1])
    assert [event.position for event in seen] == listed
    of_one = [event async for event in tenant.client.events.list(resource=first)]
    assert [event.aggregate_version for event in of_one] == list(range(1, len(of_one) + 1))
