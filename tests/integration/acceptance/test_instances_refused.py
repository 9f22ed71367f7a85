"""Instances that can't be: each refusal tells the field and the remedy, and leaves nothing."""

from __future__ import annotations

from typing import Any

import pytest

from cirra.compute.v1.compute_pb2 import InstanceNic
from cirra.network.v1.network_pb2 import FixedIp
from cirra_sdk.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted
from tests.harness.cloud import Cloud, Parts, Standing, Tenant
from tests.harness.disks import sparse_qcow2
from tests.integration.acceptance.refusals import refused

pytestmark = pytest.mark.asyncio(loop_scope="module")

UNKNOWN_UID = "0197a000-0000-7000-8000-00000000dead"
USER_DATA_LIMIT = 64 * 1024


@pytest.mark.parametrize("unknown", [UNKNOWN_UID, "no such thing", "images/nothing"])
@pytest.mark.parametrize(
    ("field", "argument"),
    [
        ("instance.image", lambda name: {"image": name}),
        ("instance.flavor", lambda name: {"flavor": name}),
        ("instance.key_pair", lambda name: {"key_pair": name}),
        ("instance.nics[0].network", lambda name: {"networks": [name]}),
        ("instance.nics[0].port", lambda name: {"nics": [InstanceNic(port=name)]}),
    ],
)
async def test_what_is_not_there(cloud: Cloud, standing: Standing, field: str, argument: Any, unknown: str) -> None:
    async with refused(cloud, NotFound, "NOT_FOUND", field, says=repr(unknown)):
        await standing.tenant.create(standing.parts, **argument(unknown))


async def test_an_image_without_data(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    empty = await tenant.client.images.create("empty")
    async with refused(cloud, FailedPrecondition, "IMAGE_NOT_ACTIVE", "image", says="upload its data first"):
        await tenant.create(parts, image=empty)


async def test_a_subnet_without_a_free_address(cloud: Cloud, tenant: Tenant) -> None:
    parts = await tenant.prepare(cidr="10.0.1.0/24", allocation_pools=[("10.0.1.10", "10.0.1.11")])
    await tenant.boot(parts)  # the other address is the DHCP server's
    roomy = await tenant.prepare(cidr="10.0.2.0/24")
    for networks in ([parts.network], [roomy.network, parts.network]):
        async with refused(cloud, ResourceExhausted, "SUBNET_EXHAUSTED", says="10.0.1.0/24"):
            await tenant.create(parts, networks=networks)
    assert await tenant.usage() == {"instances": 1, "vcpus": 1, "memory_mib": 64, "ports": 1, "networks": 2}
    assert [port.network async for port in tenant.client.ports.list()] == [parts.network.uid]


async def test_one_free_address_for_two_nics(cloud: Cloud, tenant: Tenant) -> None:
    parts = await tenant.prepare(cidr="10.0.1.0/24", allocation_pools=[("10.0.1.10", "10.0.1.11")])
    async with refused(cloud, ResourceExhausted, "SUBNET_EXHAUSTED"):
        await tenant.create(parts, networks=[parts.network, parts.network])
    assert (await tenant.boot(parts)).nics[0].fixed_ip in ("10.0.1.10", "10.0.1.11")


async def test_an_address_that_is_taken_or_none_of_the_network(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    await tenant.client.ports.create(network=parts.network, fixed_ips=[FixedIp(ip_address="10.0.0.77")])

    def wanting(*addresses: str) -> dict[str, Any]:
        return {"nics": [InstanceNic(network=parts.network.name, fixed_ip=address) for address in addresses]}

    async with refused(cloud, AlreadyExists, "ADDRESS_IN_USE", "fixed_ip", says="10.0.0.77"):
        await tenant.create(parts, **wanting("10.0.0.77"))
    async with refused(cloud, AlreadyExists, "ADDRESS_IN_USE", "fixed_ip", says="10.0.0.78"):
        await tenant.create(parts, **wanting("10.0.0.78", "10.0.0.78"))
    for wrong in ("10.9.9.9", "10.0.0.1", "10.0.0.255", "10.0.0", "::1"):
        async with refused(cloud, InvalidArgument, "INVALID_ARGUMENT", "instance.nics[1].fixed_ip", says=wrong):
            await tenant.create(parts, **wanting("", wrong))


@pytest.mark.parametrize(
    ("resource", "limit", "networks"), [("instances", 0, 1), ("vcpus", 1, 1), ("memory_mib", 127, 1), ("ports", 1, 2)]
)
async def test_a_quota(cloud: Cloud, resource: str, limit: int, networks: int) -> None:
    tenant = await cloud.tenant({resource: limit})
    parts = await tenant.prepare()
    flavor = await cloud.flavor(vcpus=2, memory_mib=128)
    tenant.catch_up()
    async with refused(cloud, ResourceExhausted, "QUOTA_EXCEEDED", resource, says="ask an administrator"):
        await tenant.create(parts, flavor=flavor, networks=[parts.network] * networks, user_data=b"secret")
    assert await tenant.usage() == {"networks": 1}


async def test_user_data_that_is_too_long(cloud: Cloud, standing: Standing) -> None:
    async with refused(cloud, InvalidArgument, "INVALID_ARGUMENT", "instance.user_data", says=str(USER_DATA_LIMIT)):
        await standing.tenant.create(standing.parts, user_data=b"x" * (USER_DATA_LIMIT + 1))


@pytest.mark.parametrize("name", ["", "  ", "two\nlines", "x" * 256, "bell\a"])
async def test_a_display_name_that_is_none(cloud: Cloud, standing: Standing, name: str) -> None:
    client = standing.tenant.client
    async with refused(cloud, InvalidArgument, "INVALID_ARGUMENT", "instance.display_name"):
        await standing.tenant.create(standing.parts, name)
    async with refused(cloud, InvalidArgument, "INVALID_ARGUMENT", "network.display_name"):
        await client.networks.create(name)
    async with refused(cloud, InvalidArgument, "INVALID_ARGUMENT", "image.display_name"):
        await client.images.create(name)


@pytest.mark.parametrize("name", ["", " ahead", "behind ", "a/b", "two\nlines", "x" * 64, "façade"])
async def test_a_unique_name_that_is_none(cloud: Cloud, standing: Standing, name: str) -> None:
    admin = cloud.admin
    async with refused(cloud, InvalidArgument, "INVALID_ARGUMENT", "flavor.display_name"):
        await admin.flavors.create(name, vcpus=1, memory_mib=64, disk_gib=1)
    async with refused(cloud, InvalidArgument, "INVALID_ARGUMENT", "project.display_name"):
        await admin.projects.create(name)
    async with refused(cloud, InvalidArgument, "INVALID_ARGUMENT", "user.display_name"):
        await admin.users.create(name, "password")
    async with refused(cloud, InvalidArgument, "INVALID_ARGUMENT", "key_pair.display_name"):
        await standing.tenant.client.key_pairs.create(name, "ssh-ed25519 AAAA")


async def test_a_disk_smaller_than_the_image(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    says = "its disk of 1 GiB is too small: the image needs 2 GiB"
    demanding = await tenant.client.images.create("demanding", min_disk_gib=2)
    await tenant.client.images.upload(demanding, parts.disk)
    large = await tenant.client.images.create("large")
    await tenant.client.images.upload(large, sparse_qcow2(parts.disk.with_name("large.qcow2"), size_gib=2))
    for image in (demanding, large):
        async with refused(cloud, InvalidArgument, "INVALID_ARGUMENT", "instance.flavor", says=says):
            await tenant.create(parts, image=image)


async def test_less_memory_than_the_image_needs(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    demanding = await tenant.client.images.create("demanding", min_memory_mib=65)
    await tenant.client.images.upload(demanding, parts.disk)
    async with refused(cloud, InvalidArgument, "INVALID_ARGUMENT", "instance.flavor", says="64 MiB is too small"):
        await tenant.create(parts, image=demanding)


async def test_nics_that_are_none(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    port = await tenant.client.ports.create(network=parts.network)
    both = InstanceNic(network=parts.network.name, port=port.name)
    cases: list[tuple[str, list[InstanceNic]]] = [
        ("instance.nics", []),
        ("instance.nics", [InstanceNic(network=parts.network.name)] * 17),
        ("instance.nics[0]", [InstanceNic()]),
        ("instance.nics[0]", [both]),
        ("instance.nics[1].fixed_ip", [InstanceNic(network=parts.network.name), _with_address(port.name)]),
        ("instance.nics[1].port", [InstanceNic(port=port.name), InstanceNic(port=port.uid)]),
    ]
    for field, nics in cases:
        async with refused(cloud, InvalidArgument, "INVALID_ARGUMENT", field):
            await tenant.create(parts, nics=nics)


def _with_address(port: str) -> InstanceNic:
    return InstanceNic(port=port, fixed_ip="10.0.0.9")


async def test_a_port_that_another_instance_has(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    port = await tenant.client.ports.create(network=parts.network)
    instance = await tenant.boot(parts, nics=[InstanceNic(port=port.name)])
    async with refused(cloud, FailedPrecondition, "PORT_IN_USE", says=instance.uid):
        await tenant.create(parts, nics=[InstanceNic(network=parts.network.name), InstanceNic(port=port.name)])


async def test_a_network_without_a_subnet(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    bare = await tenant.client.networks.create("bare")
    async with refused(cloud, FailedPrecondition, "NETWORK_HAS_NO_SUBNET", says="create a subnet"):
        await tenant.create(parts, networks=[parts.network, bare])


async def test_a_display_name_of_several(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    twins = [await tenant.client.networks.create("twin") for _ in range(2)]
    async with refused(cloud, InvalidArgument, "INVALID_ARGUMENT", "instance.nics[0].network", says=twins[1].name):
        await tenant.create(parts, networks=["twin"])
    async with refused(cloud, InvalidArgument, "AMBIGUOUS_NAME", "name", says=twins[0].name):
        await tenant.client.networks.delete("twin")


async def test_every_mistake_is_told_at_once(cloud: Cloud, standing: Standing) -> None:
    fields = ("instance.display_name", "instance.image", "instance.nics[0].fixed_ip", "instance.user_data")
    for field in fields:
        async with refused(cloud, InvalidArgument, "INVALID_ARGUMENT", field):
            await standing.tenant.create(
                standing.parts,
                "",
                image="nothing",
                nics=[InstanceNic(network=standing.parts.network.name, fixed_ip="x")],
                user_data=b"x" * (USER_DATA_LIMIT + 1),
            )


async def test_a_request_id_that_is_none(cloud: Cloud, standing: Standing) -> None:
    for request_id in ("with space", "x" * 129, "ü"):
        async with refused(cloud, InvalidArgument, "INVALID_ARGUMENT", "request_id"):
            await standing.tenant.create(standing.parts, request_id=request_id)
