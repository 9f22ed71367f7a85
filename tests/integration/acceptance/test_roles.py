"""A reader changes nothing; a member operates nothing; a role that is taken away is gone."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import pytest
import pytest_asyncio

from cirra.identity.v1.identity_pb2 import ROLE_ADMIN, ROLE_MEMBER, ROLE_READER
from cirra_sdk import AsyncClient
from cirra_sdk.errors import InvalidArgument, NotFound, PermissionDenied
from tests.harness.cloud import PUBLIC_KEY, Cloud, Parts, Standing, Tenant
from tests.integration.acceptance.refusals import refused

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def reader(standing: Standing) -> AsyncClient:
    return await standing.tenant.colleague(ROLE_READER)


async def _are_refused(cloud: Cloud, role: str, *calls: Awaitable[Any]) -> None:
    for call in calls:
        async with refused(cloud, PermissionDenied, "ROLE_MISSING", says=f"needs the role of {role}"):
            await call


async def test_a_reader_who_writes(cloud: Cloud, standing: Standing, reader: AsyncClient) -> None:
    parts = standing.parts
    assert (await reader.networks.get(parts.network.display_name)).uid == parts.network.uid
    await _are_refused(
        cloud,
        "member",
        reader.instances.create("web", flavor=parts.flavor, image=parts.image, networks=[parts.network]),
        reader.instances.delete("web"),
        reader.networks.create("lan"),
        reader.networks.delete(parts.network),
        reader.subnets.create("range", network=parts.network, cidr="10.7.0.0/24"),
        reader.subnets.delete(parts.subnet),
        reader.ports.create(network=parts.network),
        reader.ports.delete("port"),
        reader.images.create("picture"),
        reader.images.delete(parts.image),
        reader.images.upload(parts.image, parts.disk),
        reader.key_pairs.create("laptop", PUBLIC_KEY),
        reader.key_pairs.delete("laptop"),
    )


def _admin_work(client: AsyncClient, tenant: Tenant, parts: Parts) -> list[Awaitable[Any]]:
    return [
        client.projects.create("another"),
        client.projects.delete(tenant.project),
        client.users.create("mallory", "password"),
        client.users.delete(tenant.user),
        client.users.grant_role(tenant.user, ROLE_ADMIN),
        client.users.revoke_role(tenant.user, ROLE_MEMBER, tenant.project),
        client.quotas.set(tenant.project, {"vcpus": -1}),
        client.flavors.create("huge", vcpus=64, memory_mib=65536, disk_gib=100),
        client.flavors.delete(parts.flavor),
        client.hosts.get("host-1"),
        anext(client.hosts.list()),
        client.hosts.enable("host-1"),
        client.hosts.disable("host-1", "for fun"),
        client.services.list(),
        client.enrolment_tokens.create("host-3"),
    ]


async def test_a_member_who_does_an_administrators_work(cloud: Cloud, standing: Standing, reader: AsyncClient) -> None:
    for client in (standing.tenant.client, reader):
        await _are_refused(cloud, "administrator", *_admin_work(client, standing.tenant, standing.parts))


async def test_what_only_an_administrator_may_ask_for(cloud: Cloud, standing: Standing) -> None:
    client = standing.tenant.client
    for field, call in (
        ("image.visibility", client.images.create("for all", public=True)),
        ("network.shared", client.networks.create("for all", shared=True)),
        ("network.physical_network", client.networks.create("uplink", physical_network="physnet1")),
        ("host", anext(client.instances.list(host="host-1"))),
        ("all_projects", anext(client.instances.list(all_projects=True))),
    ):
        async with refused(cloud, PermissionDenied, "PERMISSION_DENIED", field):
            await call


async def test_public_images_and_shared_networks_are_used_and_not_changed(
    cloud: Cloud, tenant: Tenant, parts: Parts
) -> None:
    admin = cloud.admin
    image = await admin.images.create("for all", public=True)
    await admin.images.upload(image, parts.disk)
    network = await admin.networks.create("for all", shared=True)
    await admin.subnets.create("for all", network=network, cidr="10.8.0.0/24")
    tenant.catch_up()
    instance = await tenant.boot(parts, image=image.name, networks=[network])
    assert instance.nics[0].fixed_ip.startswith("10.8.0.")
    async with refused(cloud, NotFound, "NOT_FOUND", says="only its own project"):
        await tenant.client.images.delete(image)
    async with refused(cloud, PermissionDenied, "PERMISSION_DENIED", says="only an administrator"):
        await tenant.client.networks.delete(network)
    async with refused(cloud, PermissionDenied, "PERMISSION_DENIED", says="create an image of your own"):
        await tenant.client.images.upload(image, parts.disk)
    async with refused(cloud, PermissionDenied, "PERMISSION_DENIED", says="only an administrator"):
        await tenant.client.subnets.create("mine", network=network, cidr="10.9.0.0/24")


async def test_nobody_without_a_role(cloud: Cloud, tenant: Tenant) -> None:
    await cloud.admin.users.revoke_role(tenant.user, ROLE_MEMBER, tenant.project)
    name = tenant.user.display_name
    async with refused(cloud, PermissionDenied, "NO_ROLE_IN_PROJECT", says="role"):
        await cloud.admin.tokens.create(name, tenant.password, tenant.project.display_name)
    unscoped = cloud.account(name, tenant.password).client
    async with refused(cloud, PermissionDenied, "UNSCOPED_TOKEN", says="name a project"):
        await anext(unscoped.networks.list())


async def test_roles_that_are_none(cloud: Cloud, standing: Standing) -> None:
    users, project, user = cloud.admin.users, standing.tenant.project, standing.tenant.user
    for field, call in (
        ("binding.role", users.grant_role(user, 0, project)),  # type: ignore[arg-type]
        ("binding.project_id", users.grant_role(user, ROLE_ADMIN, project)),
        ("binding.project_id", users.grant_role(user, ROLE_MEMBER, "")),
    ):
        async with refused(cloud, InvalidArgument, "INVALID_ARGUMENT", field):
            await call
    async with refused(cloud, NotFound, "NOT_FOUND", "binding.project_id"):
        await users.grant_role(user, ROLE_MEMBER, "nothing")
    async with refused(cloud, NotFound, "NOT_FOUND", "user"):
        await users.grant_role("nobody", ROLE_MEMBER, project)
