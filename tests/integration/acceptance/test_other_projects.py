"""What another project owns is not there: to get, to use, to delete, to watch; by name, uid and display name."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from cirra.compute.v1 import compute_pb2 as compute
from cirra.compute.v1.compute_pb2 import InstanceNic
from cirra.identity.v1.identity_pb2 import Project
from cirra.network.v1.network_pb2 import FixedIp, Port
from cirra.operations.v1.operations_pb2 import Operation
from cirra_sdk.errors import AlreadyExists, NotFound, PermissionDenied
from tests.harness.cloud import PUBLIC_KEY, Cloud, Parts, Standing, Tenant
from tests.integration.acceptance.refusals import refused

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True, slots=True)
class Possessions:
    """What the owner has, and a stranger wants."""

    owner: Tenant
    parts: Parts
    instance: compute.Instance
    operation: Operation
    port: Port
    key_pair: compute.KeyPair


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def possessions(whole_cloud: Cloud) -> Possessions:
    owner = await whole_cloud.tenant()
    parts = await owner.prepare()
    key_pair = await owner.client.key_pairs.create("owners-key", PUBLIC_KEY)
    port = await owner.client.ports.create(network=parts.network, display_name="a door")
    operation = await owner.create(parts, "the-owners-own", key_pair=key_pair)
    await owner.client.operations.wait(operation, timeout_s=120)
    instance = await owner.client.instances.get(operation.target)
    return Possessions(owner, parts, instance, operation, port, key_pair)


@pytest.fixture
def stranger(standing: Standing, possessions: Possessions) -> Tenant:
    """A member of another project, who sees all that was written."""
    assert standing.tenant.client.position
    standing.tenant.catch_up()
    return standing.tenant


def _names(resource: Any) -> list[str]:
    return [resource.name, resource.uid, *filter(None, [getattr(resource, "display_name", "")])]


async def test_to_get_and_to_delete(cloud: Cloud, stranger: Tenant, possessions: Possessions) -> None:
    client, owned = stranger.client, possessions
    collections: list[tuple[Any, Any]] = [
        (client.instances, owned.instance),
        (client.images, owned.parts.image),
        (client.networks, owned.parts.network),
        (client.subnets, owned.parts.subnet),
        (client.ports, owned.port),
        (client.key_pairs, owned.key_pair),
    ]
    for collection, resource in collections:
        for name in _names(resource):
            async with refused(cloud, NotFound, "NOT_FOUND", "name", says=repr(name)):
                await collection.get(name)
            async with refused(cloud, NotFound, "NOT_FOUND", "name", says=repr(name)):
                await collection.delete(name)
        assert resource.uid not in [each.uid async for each in collection.list()]


async def test_to_use(cloud: Cloud, standing: Standing, stranger: Tenant, possessions: Possessions) -> None:
    owned = possessions
    uses: list[tuple[str, Any, Any]] = [
        ("instance.image", owned.parts.image, lambda name: {"image": name}),
        ("instance.key_pair", owned.key_pair, lambda name: {"key_pair": name}),
        ("instance.nics[0].network", owned.parts.network, lambda name: {"networks": [name]}),
        ("instance.nics[0].port", owned.port, lambda name: {"nics": [InstanceNic(port=name)]}),
    ]
    for field, resource, argument in uses:
        for name in _names(resource):
            async with refused(cloud, NotFound, "NOT_FOUND", field, says=repr(name)):
                await stranger.create(standing.parts, **argument(name))
    client = stranger.client
    for name in _names(owned.parts.network):
        async with refused(cloud, NotFound, "NOT_FOUND", "port.network"):
            await client.ports.create(network=name)
        async with refused(cloud, NotFound, "NOT_FOUND", "subnet.network"):
            await client.subnets.create("mine", network=name, cidr="10.7.0.0/24")
        async with refused(cloud, NotFound, "NOT_FOUND", "network"):
            await anext(client.ports.list(network=name))
    for name in _names(owned.parts.subnet):
        async with refused(cloud, NotFound, "NOT_FOUND", "port.fixed_ips[0].subnet"):
            await client.ports.create(network=standing.parts.network, fixed_ips=[FixedIp(subnet=name)])
    for name in _names(owned.parts.image):
        async with refused(cloud, NotFound, "NOT_FOUND"):
            await client.images.upload(name, owned.parts.disk)


async def test_to_watch_and_to_look_back_at(cloud: Cloud, stranger: Tenant, possessions: Possessions) -> None:
    client, owned = stranger.client, possessions
    streams: list[AsyncGenerator[Any, None]] = [
        client.instances.watch(owned.instance),
        client.operations.watch(owned.operation),
        client.events.watch(resource=owned.instance),
        client.events.list(resource=owned.instance),
        client.events.list(resource=owned.port),
        client.events.list(resource=owned.operation),
        client.ports.list(device_id=owned.instance.uid),
    ]
    for stream in streams:
        async with refused(cloud, NotFound, "NOT_FOUND"):
            await anext(stream)
    for resource in (owned.instance, owned.port, owned.parts.network, owned.operation, owned.parts.image):
        async with refused(cloud, NotFound, "NOT_FOUND"):
            await client.timeline.get(resource)
    moment = owned.instance.create_time.ToDatetime()
    for call in (
        client.operations.get(owned.operation),
        client.instances.get(owned.instance, as_of=moment),
        client.projects.get(owned.owner.project),
        client.quotas.get(owned.owner.project),
        client.users.get(owned.owner.user),
    ):
        async with refused(cloud, NotFound, "NOT_FOUND"):
            await call


async def test_no_list_tells_of_it(stranger: Tenant, possessions: Possessions) -> None:
    client, owner = stranger.client, possessions.owner
    seen = [event async for event in client.events.list()]
    assert seen, "its own"
    foreign = {possessions.instance.uid, possessions.port.uid, possessions.parts.network.uid, owner.project.uid}
    assert not foreign & {event.aggregate_id for event in seen}
    assert [operation async for operation in client.operations.list()] == []
    assert [operation async for operation in client.operations.list(target=possessions.instance)] == []
    assert [project.uid async for project in client.projects.list()] == [stranger.project.uid]
    assert [user.uid async for user in client.users.list()] == [stranger.user.uid]
    async with refused(stranger.cloud, PermissionDenied, "PERMISSION_DENIED", "all_projects"):
        await anext(client.instances.list(all_projects=True))


async def test_names_and_addresses_are_each_projects_own(
    standing: Standing, stranger: Tenant, possessions: Possessions
) -> None:
    """What a stranger can't see is in nobody's way."""
    client = stranger.client
    await client.key_pairs.create(possessions.key_pair.display_name, PUBLIC_KEY)
    mine = await client.networks.create(possessions.parts.network.display_name)
    await client.subnets.create("mine", network=mine.display_name, cidr=possessions.parts.subnet.cidr)
    address = possessions.instance.nics[0].fixed_ip
    await client.ports.create(network=mine, fixed_ips=[FixedIp(ip_address=address)])


async def test_a_project_is_named_once(cloud: Cloud, possessions: Possessions) -> None:
    project: Project = possessions.owner.project
    async with refused(cloud, AlreadyExists, "NAME_TAKEN", "project.display_name", says="choose another name"):
        await cloud.admin.projects.create(project.display_name)
    async with refused(cloud, AlreadyExists, "NAME_TAKEN", "user.display_name", says="choose another name"):
        await cloud.admin.users.create(possessions.owner.user.display_name, "password")
    async with refused(cloud, AlreadyExists, "NAME_TAKEN", "flavor.display_name", says="choose another name"):
        await cloud.admin.flavors.create(possessions.parts.flavor.display_name, vcpus=1, memory_mib=1, disk_gib=1)
    async with refused(cloud, AlreadyExists, "NAME_TAKEN", "key_pair.display_name", says="choose another name"):
        await possessions.owner.client.key_pairs.create(possessions.key_pair.display_name, PUBLIC_KEY)
