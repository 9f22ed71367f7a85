"""What guests wrote to their consoles, by the public API."""

from __future__ import annotations

import asyncio

import pytest

from cirra.identity.v1.identity_pb2 import ROLE_READER
from cirra_sdk.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, Unavailable
from tests.harness.cloud import Cloud, Parts, Standing, Tenant
from tests.integration.acceptance.refusals import check_refusal, refused

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def booted_with(cloud: Cloud, tenant: Tenant, parts: Parts, written: bytes) -> str:
    booted = await tenant.boot(parts)
    [host] = [host for host in cloud.hosts if booted.uid in host.domains]
    host.consoles[booted.uid] = written
    return booted.uid


async def test_all_of_it_and_its_last_lines(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    uid = await booted_with(cloud, tenant, parts, b"one\n\xfftwo\r\nthree\n")
    console = tenant.client.instances.console_output
    found = await console(uid)
    assert (found.name.rpartition("/")[2], found.output) == (uid, "one\n\ufffdtwo\r\nthree\n")
    assert [(await console(uid, lines=lines)).output for lines in (1, 2, 9)] == [
        "three\n",
        "\ufffdtwo\r\nthree\n",
        found.output,
    ]


async def test_a_guest_that_wrote_nothing_and_one_that_wrote_much(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    silent = await booted_with(cloud, tenant, parts, b"")
    assert (await tenant.client.instances.console_output(silent)).output == ""
    chatty = await booted_with(cloud, tenant, parts, b"x" * 300_000 + b"end")
    output = (await tenant.client.instances.console_output(chatty)).output
    assert (len(output), output[-3:]) == (100 * 1024, "end")


async def test_many_ask_at_once_and_each_gets_its_own(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    uids = [await booted_with(cloud, tenant, parts, f"guest {n}".encode()) for n in range(3)]
    clients = [tenant.at(0), tenant.at(1)]
    tenant.catch_up()
    asked = [clients[n % 2].instances.console_output(uids[n % 3]) for n in range(30)]
    answers = [answer.output for answer in await asyncio.gather(*asked)]
    assert answers == [f"guest {n % 3}" for n in range(30)]


async def test_who_may_read_it(cloud: Cloud, standing: Standing, tenant: Tenant, parts: Parts) -> None:
    uid = await booted_with(cloud, tenant, parts, b"secret")
    reader = await tenant.colleague(ROLE_READER)
    async with refused(cloud, PermissionDenied, "ROLE_MISSING"):
        await reader.instances.console_output(uid)
    async with refused(cloud, NotFound, "NOT_FOUND", uid):
        await standing.tenant.client.instances.console_output(uid)
    async with refused(cloud, InvalidArgument, "INVALID_ARGUMENT", "lines"):
        await tenant.client.instances.console_output(uid, lines=-1)


async def test_a_host_that_does_not_answer(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    uid = await booted_with(cloud, tenant, parts, b"x")
    for host in cloud.hosts:
        host.mute = True
    impatient = tenant.at(0, retry_for_s=0.0)
    tenant.catch_up()
    with pytest.raises(Unavailable) as silent:
        await impatient.instances.console_output(uid)
    check_refusal(silent.value, Unavailable, "HOST_SILENT", says="compute-agent")
    for host in cloud.hosts:
        host.mute = False
    assert (await tenant.client.instances.console_output(uid)).output == "x"


async def test_an_instance_without_a_host(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    big = await cloud.flavor(vcpus=500)
    tenant.catch_up()
    await cloud.admin.quotas.set(tenant.project, {"vcpus": -1})
    tenant.catch_up()
    failed = await tenant.ended(await tenant.create(parts, flavor=big))
    async with refused(cloud, FailedPrecondition, "NO_CONSOLE", says="never built"):
        await tenant.client.instances.console_output(failed.target)
