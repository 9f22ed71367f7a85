"""What is deleted takes its secrets along: who has the log, a copy of it and the master key reads none of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import httpx
import pytest
from eventsourcing.utils import resolve_topic
from google.protobuf.descriptor import FieldDescriptor

from cirra.agent.v1 import desired_pb2 as agent
from cirra.compute.v1 import compute_pb2 as compute
from cirra.identity.v1.identity_pb2 import ROLE_MEMBER
from cirra_sdk.errors import FailedPrecondition, NotFound, Unauthenticated
from core.eventlog.types import RecordedEvent
from core.sealing.fields import replace_sensitive
from tests.harness.cloud import Cloud, Parts, Tenant
from tests.harness.control_plane import PATIENCE_S
from tests.harness.metadata_proxy import Proxy
from tests.harness.planted import planted

pytestmark = pytest.mark.asyncio(loop_scope="module")

USER_DATA = planted("#!/bin/sh\necho of what is deleted\n").encode()
POSTED = planted("what the guest posted").encode()


@dataclass(frozen=True, slots=True)
class Known:
    """A guest as the proxy of its host knows it."""

    network: str
    address: str


async def history(cloud: Cloud, uid: str) -> Sequence[RecordedEvent]:
    """Its events as they lie in the log."""
    return await cloud.plane.repository.log.read_aggregate(UUID(uid))


async def readable(cloud: Cloud, events: Sequence[RecordedEvent]) -> list[bytes]:
    """The secrets in the events that a service can open which starts now."""
    keyring, found = cloud.plane.new_keyring(), list[bytes]()

    def keep(_field: FieldDescriptor, value: bytes) -> bytes:
        found.append(value)
        return value

    for event in events:
        message = resolve_topic(event.type).message_class.FromString(event.data)
        replace_sensitive(await keyring.unseal(event.aggregate_id, message), keep)
    return found


async def post_password(cloud: Cloud, instance: compute.Instance) -> None:
    """As the guest does it, by the metadata service."""
    host = (await cloud.plane.instance(instance.uid)).host
    [nic] = instance.nics
    guest = Known(nic.network.rpartition("/")[2], nic.fixed_ip)
    async with httpx.AsyncClient() as client:
        proxy = Proxy(cloud.metadata, cloud.plane.metadata_key, host, client)
        answer = await proxy.ask("/openstack/latest/password", guest, "POST", body=POSTED)
    assert answer.status_code == 200, answer


async def delete(tenant: Tenant, instance: compute.Instance) -> None:
    operation = await tenant.client.instances.delete(instance)
    await tenant.client.operations.wait(operation, timeout_s=PATIENCE_S)


async def test_an_instance_s_user_data_and_password(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    gone, kept = [await tenant.boot(parts, name, user_data=USER_DATA) for name in ("gone", "kept")]
    await post_password(cloud, gone)
    assert (await tenant.client.instances.password(gone)).password == POSTED
    copy = await history(cloud, gone.uid)
    assert await readable(cloud, copy) == [USER_DATA, POSTED]
    await delete(tenant, gone)
    for events in (copy, await history(cloud, gone.uid)):
        assert await readable(cloud, events) == []
    with pytest.raises(NotFound):
        await tenant.client.instances.password(gone)
    told = [event.type.rpartition(".")[2] async for event in tenant.client.events.list(resource=gone.uid)]
    assert (told[0], told[-1]) == ("InstanceCreated", "InstanceDeleted"), "its history stays"
    assert await readable(cloud, await history(cloud, kept.uid)) == [USER_DATA]


async def test_those_of_an_instance_that_was_never_built(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    for host in cloud.hosts:
        host.failing["domain"] = agent.Failure(reason="DISK_FULL", message="no space", reschedule=True)
    operation = await tenant.ended(await tenant.create(parts, user_data=USER_DATA))
    instance = await tenant.client.instances.get(operation.target)
    assert instance.status == compute.INSTANCE_STATUS_ERROR
    assert await readable(cloud, await history(cloud, instance.uid)) == [USER_DATA]
    await delete(tenant, instance)
    assert await readable(cloud, await history(cloud, instance.uid)) == []


async def test_a_user_s_password(cloud: Cloud, tenant: Tenant) -> None:
    user, password = await cloud.user(ROLE_MEMBER, tenant.project)
    await cloud.admin.tokens.create(user.display_name, password)
    copy = await history(cloud, user.uid)
    [stored] = await readable(cloud, copy)
    assert stored.startswith(b"$argon2")
    await cloud.admin.users.delete(user)
    for events in (copy, await history(cloud, user.uid)):
        assert await readable(cloud, events) == []
    with pytest.raises(Unauthenticated):
        await cloud.admin.tokens.create(user.display_name, password)
    assert len(await readable(cloud, await history(cloud, tenant.user.uid))) == 1


async def test_a_project_goes_after_what_has_secrets_in_it(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    instance = await tenant.boot(parts, user_data=USER_DATA)
    copy = await history(cloud, instance.uid)
    with pytest.raises(FailedPrecondition, match="in use"):
        await cloud.admin.projects.delete(tenant.project)
    assert await readable(cloud, copy) == [USER_DATA]
    await delete(tenant, instance)
    await tenant.client.networks.delete(parts.network)
    await cloud.admin.projects.delete(tenant.project)
    assert await readable(cloud, copy) == []
