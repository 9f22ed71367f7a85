"""Where instances go, by what operators and users say: zones, aggregates, ratios, server groups; and why they went."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from cirra.agent.v1 import desired_pb2 as agent
from cirra.compute.v1 import compute_pb2 as compute
from cirra.compute.v1 import server_group_pb2 as groups
from cirra.placement.v1 import aggregate_pb2 as aggregates
from cirra.placement.v1 import decisions_pb2 as decisions
from cirra_sdk.errors import (
    AlreadyExists,
    CirraApiError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
)
from tests.harness.cloud import HOSTS, Cloud, Parts, Tenant
from tests.integration.acceptance.refusals import refused

pytestmark = pytest.mark.asyncio(loop_scope="module")


@asynccontextmanager
async def aggregate(cloud: Cloud, *hosts: str, zone: str = "", **metadata: str) -> AsyncIterator[aggregates.Aggregate]:
    """With these hosts in it; gone after the block, as its instances must be."""
    made = await cloud.admin.aggregates.create(f"a-{cloud.number()}", availability_zone=zone, metadata=metadata)
    for host in hosts:
        made = await cloud.admin.aggregates.add_host(made, host)
    try:
        yield made
    finally:
        for host in (await cloud.admin.aggregates.get(made)).hosts:
            await cloud.admin.aggregates.remove_host(made, host)
        await cloud.admin.aggregates.delete(made)


async def host_of(cloud: Cloud, tenant: Tenant, instance: compute.Instance) -> str:
    """Operators alone see it."""
    cloud.admin._transport.memory.saw(tenant.client.position)
    return (await cloud.admin.instances.get(instance.uid)).host


async def delete(tenant: Tenant, *instances: compute.Instance) -> None:
    for instance in instances:
        await tenant.client.operations.wait(await tenant.client.instances.delete(instance), timeout_s=120)


async def refusal(tenant: Tenant, parts: Parts, **wanted: Any) -> compute.Fault:
    """The fault of an instance for which there is no host; the instance is deleted again."""
    operation = await tenant.create(parts, "nowhere", **wanted)
    await tenant.ended(operation)
    instance = await tenant.client.instances.get(operation.target)
    await delete(tenant, instance)
    assert instance.fault.reason == "NO_VALID_HOST"
    return instance.fault


# --- zones


async def test_an_aggregates_zone_is_its_hosts_zone(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    async with aggregate(cloud, HOSTS[1], zone="north"):
        assert (await cloud.admin.hosts.get(HOSTS[1])).availability_zone == "north"
        zones = {zone.name: zone for zone in await cloud.admin.placement.zones()}
        assert {name: (zone.available, list(zone.hosts)) for name, zone in zones.items()} == {
            "north": (True, [HOSTS[1]]),
            "nova": (True, [HOSTS[0]]),
        }
        tenant.catch_up()
        assert [(zone.name, list(zone.hosts)) for zone in await tenant.client.placement.zones()] == [
            ("north", []),
            ("nova", []),
        ]
        instance = await tenant.boot(parts, availability_zone="north")
        assert instance.availability_zone == "north"
        assert await host_of(cloud, tenant, instance) == HOSTS[1]
        await delete(tenant, instance)
    assert (await cloud.admin.hosts.get(HOSTS[1])).availability_zone == "nova"


async def test_a_host_is_in_one_zone_and_its_instances_keep_theirs(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    async with aggregate(cloud, HOSTS[0], zone="north") as north, aggregate(cloud, zone="south") as south:
        with pytest.raises(FailedPrecondition) as elsewhere:
            await cloud.admin.aggregates.add_host(south, HOSTS[0])
        assert (elsewhere.value.reason, elsewhere.value.remedy) == (
            "HOST_IN_OTHER_ZONE",
            f"remove it from aggregate {north.display_name} first",
        )
        tenant.catch_up()
        instance = await tenant.boot(parts, availability_zone="north")
        cloud.admin._transport.memory.saw(tenant.client.position)
        for change in (
            lambda: cloud.admin.aggregates.update(north, availability_zone="west"),
            lambda: cloud.admin.aggregates.remove_host(north, HOSTS[0]),
        ):
            with pytest.raises(FailedPrecondition) as moved:
                await change()
            assert moved.value.reason == "HOST_HAS_INSTANCES"
        await delete(tenant, instance)
        renamed = await cloud.admin.aggregates.update(north, availability_zone="west")
        assert renamed.availability_zone == "west"
        assert (await cloud.admin.hosts.get(HOSTS[0])).availability_zone == "west"


async def test_an_administrator_names_the_host(cloud: Cloud) -> None:
    tenant = await cloud.tenant()
    parts = await tenant.prepare()
    tenant.catch_up()
    for host in HOSTS:
        operation = await cloud.admin.instances.create(
            "there", flavor=parts.flavor, image=await shared(cloud), networks=[await lan(cloud)],
            availability_zone=f"nova:{host}",
        )  # fmt: skip
        await cloud.admin.operations.wait(operation, timeout_s=120)
        instance = await cloud.admin.instances.get(operation.target)
        assert (instance.host, instance.availability_zone) == (host, "nova")
        await cloud.admin.operations.wait(await cloud.admin.instances.delete(instance), timeout_s=120)


async def shared(cloud: Cloud) -> str:
    """An image of the administrator's own project."""
    picture = await cloud.admin.images.create(f"picture-{cloud.number()}")
    return (await cloud.admin.images.upload(picture, cloud.disk)).name


async def lan(cloud: Cloud) -> str:
    network = await cloud.admin.networks.create(f"lan-{cloud.number()}")
    await cloud.admin.subnets.create("range", network=network, cidr="10.0.0.0/24")
    return network.name


@pytest.mark.parametrize(
    ("wanted", "kind", "reason", "field", "says"),
    [
        ({"availability_zone": "mars"}, InvalidArgument, "INVALID_ARGUMENT", "instance.availability_zone", "mars"),
        (
            {"availability_zone": "nova:host-1"},
            PermissionDenied,
            "PERMISSION_DENIED",
            "instance.availability_zone",
            "administrator",
        ),
        ({"hints": {"colour": "red"}}, InvalidArgument, "INVALID_ARGUMENT", "scheduler_hints[colour]", "give group"),
        ({"server_group": "nobody"}, NotFound, "NOT_FOUND", "scheduler_hints[group]", "nobody"),
    ],
)
async def test_what_cant_be_asked_for(
    cloud: Cloud,
    tenant: Tenant,
    parts: Parts,
    wanted: dict[str, Any],
    kind: type[CirraApiError],
    reason: str,
    field: str,
    says: str,
) -> None:
    async with refused(cloud, kind, reason, field, says=says):
        await tenant.create(parts, **wanted)


async def test_a_host_that_there_is_not(cloud: Cloud, parts: Parts) -> None:
    async with refused(cloud, InvalidArgument, "INVALID_ARGUMENT", "instance.availability_zone", says="host-9"):
        await cloud.admin.instances.create(
            "x", flavor=parts.flavor, image=parts.image, networks=[parts.network], availability_zone="nova:host-9"
        )


# --- aggregates


async def test_flavors_ask_for_what_aggregates_have(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    fast = await cloud.flavor(extra_specs={"aggregate_instance_extra_specs:disk": "<or> ssd <or> nvme"})
    tenant.catch_up()
    fault = await refusal(tenant, parts, flavor=fast)
    assert "aggregate_extra_specs: 2 hosts removed, asked is disk: <or> ssd <or> nvme" in fault.message
    async with aggregate(cloud, HOSTS[1], disk="hdd, nvme") as rack:
        tenant.catch_up()
        instances = [await tenant.boot(parts, f"fast-{number}", flavor=fast) for number in range(3)]
        assert {await host_of(cloud, tenant, instance) for instance in instances} == {HOSTS[1]}
        await cloud.admin.aggregates.update(rack, without=["disk"])
        tenant.catch_up()
        await refusal(tenant, parts, flavor=fast)
        await delete(tenant, *instances)


async def test_aggregates_tell_the_allocation_ratio_unless_the_host_does(cloud: Cloud) -> None:
    before = await cloud.admin.hosts.get(HOSTS[0])
    assert (before.allocation_ratios.vcpus, before.capacity.vcpus) == (4.0, 4 * before.inventory.vcpus)
    async with (
        aggregate(cloud, HOSTS[0], cpu_allocation_ratio="2") as half,
        aggregate(cloud, HOSTS[0], cpu_allocation_ratio="8"),
    ):
        host = await cloud.admin.hosts.get(HOSTS[0])
        assert (host.allocation_ratios.vcpus, host.capacity.vcpus) == (2.0, 2 * before.inventory.vcpus)
        assert len(host.aggregates) == 2
        host = await cloud.admin.hosts.update(HOSTS[0], cpu_allocation_ratio=1.5, reserved_memory_mib=1024)
        assert host.capacity.vcpus == 1.5 * before.inventory.vcpus
        assert host.capacity.memory_mib == before.capacity.memory_mib - 1024
        host = await cloud.admin.hosts.update(HOSTS[0], cpu_allocation_ratio=0, reserved_memory_mib=0)
        assert host.capacity.vcpus == 2 * before.inventory.vcpus
        await cloud.admin.aggregates.update(half, metadata={"cpu_allocation_ratio": "3"})
        assert (await cloud.admin.hosts.get(HOSTS[0])).allocation_ratios.vcpus == 3.0
    after = await cloud.admin.hosts.get(HOSTS[0])
    assert (after.allocation_ratios, after.capacity, after.aggregates) == (
        before.allocation_ratios,
        before.capacity,
        [],
    )


async def test_what_aggregates_refuse(cloud: Cloud, tenant: Tenant) -> None:
    admin = cloud.admin.aggregates
    async with aggregate(cloud, HOSTS[0]) as rack:
        async with refused(cloud, AlreadyExists, "NAME_TAKEN", "aggregate.display_name"):
            await admin.create(rack.display_name)
        async with refused(cloud, FailedPrecondition, "AGGREGATE_IN_USE", says="remove its hosts first"):
            await admin.delete(rack)
        async with refused(cloud, NotFound, "NOT_FOUND", "host", says="host-9"):
            await admin.add_host(rack, "host-9")
        async with refused(cloud, InvalidArgument, "INVALID_ARGUMENT", "host", says="not in aggregate"):
            await admin.remove_host(rack, HOSTS[1])
        async with refused(
            cloud, InvalidArgument, "INVALID_ARGUMENT", "aggregate.metadata['cpu_allocation_ratio']", says="no ratio"
        ):
            await admin.update(rack, metadata={"cpu_allocation_ratio": "many"})
        async with refused(cloud, InvalidArgument, "INVALID_ARGUMENT", "update_mask", says="empty"):
            await admin.update(rack)
        async with refused(cloud, InvalidArgument, "INVALID_ARGUMENT", "host.inventory.vcpu_allocation_ratio"):
            await cloud.admin.hosts.update(HOSTS[0], cpu_allocation_ratio=-1)
    for call in (tenant.client.aggregates.create("mine"), tenant.client.placement.simulate("f", 1)):
        with pytest.raises(PermissionDenied):
            await call


async def test_the_same_request_makes_one_aggregate(cloud: Cloud) -> None:
    name, request_id = f"a-{cloud.number()}", f"request-{cloud.number()}"
    made = await asyncio.gather(*(cloud.admin.aggregates.create(name, request_id=request_id) for _ in range(4)))
    assert len({each.uid for each in made}) == 1
    await cloud.admin.aggregates.delete(made[0])


# --- server groups


async def test_anti_affinity_is_exact_when_all_come_at_once(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    group = await tenant.client.server_groups.create("apart", groups.SERVER_GROUP_POLICY_ANTI_AFFINITY)
    begun = [await tenant.create(parts, f"apart-{number}", server_group=group) for number in range(5)]
    ended = [await tenant.ended(operation) for operation in begun]
    assert Counter(operation.error.reason for operation in ended) == {"": 2, "NO_VALID_HOST": 3}
    instances = [await tenant.client.instances.get(operation.target) for operation in begun]
    refusals = [instance.fault.message for instance in instances if instance.fault.reason]
    assert all("server_group_anti_affinity: 2 hosts removed, 1 of the group on each" in text for text in refusals)
    placed = [instance for instance in instances if instance.status == compute.INSTANCE_STATUS_ACTIVE]
    assert {await host_of(cloud, tenant, instance) for instance in placed} == set(HOSTS)
    assert set((await tenant.client.server_groups.get("apart")).members) == {instance.uid for instance in instances}
    await delete(tenant, *instances)
    assert (await tenant.client.server_groups.get("apart")).members == []
    again = await tenant.boot(parts, "again", server_group="apart")
    await delete(tenant, again)


async def test_affinity_keeps_them_together_until_the_last_has_gone(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    group = await tenant.client.server_groups.create("together", groups.SERVER_GROUP_POLICY_AFFINITY)
    begun = [await tenant.create(parts, f"together-{number}", server_group=group) for number in range(5)]
    for operation in begun:
        await tenant.client.operations.wait(operation, timeout_s=120)
    instances = [await tenant.client.instances.get(operation.target) for operation in begun]
    [home] = {await host_of(cloud, tenant, instance) for instance in instances}
    [other] = set(HOSTS) - {home}
    await cloud.admin.hosts.disable(home, "full of a group")
    try:
        tenant.catch_up()
        fault = await refusal(tenant, parts, server_group=group)
        assert "compute_enabled: 1 host removed" in fault.message
        assert "server_group_affinity: 1 host removed, the group is elsewhere" in fault.message
        await asyncio.gather(*(delete(tenant, instance) for instance in instances))
        instance = await tenant.boot(parts, "last", server_group=group)
        assert await host_of(cloud, tenant, instance) == other
    finally:
        await cloud.admin.hosts.enable(home)
    await delete(tenant, instance)


async def test_soft_policies_prefer_and_dont_demand(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    for policy, counts in (
        (groups.SERVER_GROUP_POLICY_SOFT_AFFINITY, [4]),
        (groups.SERVER_GROUP_POLICY_SOFT_ANTI_AFFINITY, [2, 2]),
    ):
        group = await tenant.client.server_groups.create(f"soft-{policy}", policy)
        instances = [await tenant.boot(parts, f"soft-{number}", server_group=group) for number in range(4)]
        found = Counter([await host_of(cloud, tenant, instance) for instance in instances])
        assert sorted(found.values()) == counts
        await delete(tenant, *instances)


async def test_groups_are_their_projects(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    group = await tenant.client.server_groups.create("ours", groups.SERVER_GROUP_POLICY_AFFINITY)
    stranger = await cloud.tenant()
    stranger.catch_up()
    assert [found async for found in stranger.client.server_groups.list()] == []
    theirs = await stranger.prepare()
    async with refused(cloud, NotFound, "NOT_FOUND", "scheduler_hints[group]"):
        await stranger.create(theirs, server_group=group)
    with pytest.raises(NotFound):
        await stranger.client.server_groups.delete(group)
    async with refused(cloud, InvalidArgument, "INVALID_ARGUMENT", "server_group.policy"):
        await tenant.client.server_groups.create("x", groups.SERVER_GROUP_POLICY_UNSPECIFIED)
    await tenant.client.server_groups.delete(group)
    async with refused(cloud, NotFound, "NOT_FOUND", "scheduler_hints[group]"):
        await tenant.create(parts, server_group=group)


# --- explain, simulate


async def test_explain_tells_of_every_attempt(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    broken = cloud.hosts[0]
    broken.failing["domain"] = agent.Failure(reason="DISK_FULL", message="no space", reschedule=True)
    await cloud.admin.hosts.disable(HOSTS[1], "only for a moment")
    tenant.catch_up()
    operation = await tenant.create(parts)
    ended = await tenant.ended(operation)
    await cloud.admin.hosts.enable(HOSTS[1])
    assert ended.error.reason == "NO_VALID_HOST"
    cloud.admin._transport.memory.saw(tenant.client.position)
    explanation = await cloud.admin.placement.explain(operation.target)
    first, second = explanation.attempts
    assert (first.attempt, first.host, first.outcome) == (1, HOSTS[0], decisions.PLACEMENT_OUTCOME_BUILD_FAILED)
    assert first.HasField("release_time")
    assert (second.attempt, second.host, second.outcome) == (2, "", decisions.PLACEMENT_OUTCOME_REFUSED)
    assert second.message == ended.error.message.partition(" (after")[0]
    counts = {each.filter: (each.hosts_in, each.hosts_out) for each in second.decision.filters}
    assert counts["compute_enabled"] == (2, 1) and counts["not_tried_yet"] == (1, 0)
    [best] = first.decision.scores
    assert best.host == HOSTS[0] and {"vcpus", "memory_mib", "disk_gib", "build_failures"} <= best.weights.keys()
    broken.failing.clear()
    await delete(tenant, await tenant.client.instances.get(operation.target))


async def test_hosts_that_fail_are_avoided_until_a_guest_runs_there(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    broken = cloud.hosts[0]
    broken.failing["domain"] = agent.Failure(reason="DISK_FULL", message="no space", reschedule=True)
    await cloud.admin.hosts.disable(HOSTS[1], "only for a moment")
    tenant.catch_up()
    await refusal(tenant, parts)
    await cloud.admin.hosts.enable(HOSTS[1])
    broken.failing.clear()
    simulation = await cloud.admin.placement.simulate(parts.flavor, 5)
    assert [(each.host, each.instances) for each in simulation.hosts] == [(HOSTS[1], 5)]
    tenant.catch_up()
    await cloud.admin.hosts.disable(HOSTS[1], "only for a moment")
    tenant.catch_up()
    instance = await tenant.boot(parts)
    await cloud.admin.hosts.enable(HOSTS[1])
    await delete(tenant, instance)
    cloud.admin._transport.memory.saw(tenant.client.position)
    simulation = await cloud.admin.placement.simulate(parts.flavor, 5)
    assert {each.host for each in simulation.hosts} == set(HOSTS)


async def test_simulate_tells_how_many_fit_and_changes_nothing(cloud: Cloud, tenant: Tenant) -> None:
    host = await cloud.admin.hosts.get(HOSTS[0])
    quarter = await cloud.flavor(vcpus=host.capacity.vcpus // 4)
    before = (await cloud.plane.repository.log.head()).position
    simulation = await cloud.admin.placement.simulate(quarter, 10)
    assert (simulation.asked, simulation.placed, simulation.hosts_considered) == (10, 8, 2)
    assert {each.host: each.instances for each in simulation.hosts} == dict.fromkeys(HOSTS, 4)
    asked = host.capacity.vcpus // 4
    assert f"vcpus: 2 hosts removed, {8 * asked} of {8 * asked} used" in simulation.refusal_message
    assert simulation.refusal_remedy
    without = await cloud.admin.placement.simulate(quarter, 10, without_hosts=[HOSTS[0]])
    assert {each.host: each.instances for each in without.hosts} == {HOSTS[1]: 4}
    assert "thought_away: 1 host removed" in without.refusal_message
    enough = await cloud.admin.placement.simulate(quarter, 3, availability_zone="nova")
    assert (enough.placed, enough.HasField("refusal")) == (3, False)
    assert (await cloud.plane.repository.log.head()).position == before
    for wanted, field in (
        ({"count": 0}, "count"),
        ({"count": 1, "availability_zone": "mars"}, "availability_zone"),
        ({"count": 1, "without_hosts": ["host-9"]}, "without_hosts"),
    ):
        async with refused(cloud, InvalidArgument, "INVALID_ARGUMENT", field):
            await cloud.admin.placement.simulate(quarter, **wanted)
