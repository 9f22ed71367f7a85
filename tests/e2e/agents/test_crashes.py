"""Whoever is at work on a real guest is killed in the middle of it: it ends as asked, and once."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cirra.compute.v1.compute_pb2 import INSTANCE_STATUS_ACTIVE
from cirra.compute.v1.events_pb2 import InstanceActivated, InstanceDomainDesired
from cirra.image.v1.image_pb2 import Image
from cirra.operations.v1.operations_pb2 import Operation
from core.ids import last_segment
from core.testing.faults.processes import kill
from deployment import guests
from deployment.demo.tenant import Tenant
from tests.e2e.agents.guest import TIMEOUT_S, TestGuest, create, created, delete, reached
from tests.e2e.agents.host import Host
from tests.e2e.cloud import eventually

pytestmark = [pytest.mark.root, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]


async def test_conductor_killed_before_the_pivot(host: Host, tenant: Tenant) -> None:
    """While its host makes the guest: another life of the conductor takes the answer, and goes on."""
    with host.frozen("compute-agent"):
        operation = await create(tenant)
        await reached(tenant, operation, "spawn")
        former = await host.kill("conductor-1")
    guest = await active_once(tenant, host, operation)
    await host.run_anew(former)
    await delete(guest)


async def test_conductor_killed_after_the_pivot(host: Host, tenant: Tenant) -> None:
    """The guest has been started: it is not started again, nor given up."""
    operation = await create(tenant)
    await seen(lambda: host.qemus(last_segment(operation.target)), "the guest's process")
    former = await host.kill("conductor-1")
    [process] = host.qemus(last_segment(operation.target))
    guest = await active_once(tenant, host, operation)
    assert guest.process == process
    await host.run_anew(former)
    await delete(guest)


@pytest.mark.slow
async def test_compute_agent_killed_while_it_downloads_an_image(host: Host, tenant: Tenant, tmp_path: Path) -> None:
    image = await other_image(tenant, tmp_path)
    part = host.cloud.layout.agent_state / "instances" / "_base" / f"{image.sha256}.part"
    operation = await create(tenant, image)
    await seen(part.exists, "a part of the image")
    former = await host.kill("compute-agent")
    guest = await active_once(tenant, host, operation)
    await host.run_anew(former)
    assert not part.exists()
    await delete(guest)


@pytest.mark.slow
@pytest.mark.parametrize("file", ["disk.info", "libvirt.xml"])
async def test_compute_agent_killed_in_the_middle_of_builds(host: Host, tenant: Tenant, file: str) -> None:
    """Soon after the first of them has that file: each is somewhere else on its way by then."""
    operations = [await create(tenant) for _ in range(3)]
    folders = [host.cloud.guest_folder(last_segment(operation.target)) for operation in operations]
    await seen(lambda: any((folder / file).exists() for folder in folders), file)
    former = await host.kill("compute-agent")
    made = [await active_once(tenant, host, operation) for operation in operations]
    await host.run_anew(former)
    for folder in folders:
        assert not (folder / "disk.new").exists()
    for guest in made:
        await delete(guest)


@pytest.mark.slow
async def test_compute_agent_killed_in_the_middle_of_a_delete(host: Host, tenant: Tenant) -> None:
    """libvirtd answers neither the first life of the agent, nor, for a while, the second."""
    guest = await created(tenant, host, await create(tenant))
    with host.frozen("libvirtd"):
        operation = await tenant.user.instances.delete(guest.instance.name)
        await reached(tenant, operation, "remove_domain")
        former = await host.kill("compute-agent")
        assert host.qemus(guest.uid)
    await tenant.user.operations.wait(operation, timeout_s=TIMEOUT_S)
    await host.run_anew(former)
    assert host.qemus(guest.uid) == []
    await eventually(lambda: not host.cloud.guest_folder(guest.uid).exists(), "its disk is gone as well")


@pytest.mark.slow
async def test_everything_of_the_cloud_killed_at_once_in_the_middle_of_builds(host: Host, tenant: Tenant) -> None:
    operations = [await create(tenant) for _ in range(2)]
    await reached(tenant, operations[0], "spawn")
    names = ("conductor-1", "placement-1", "api-gateway-1", "compute-agent", "net-agent", "nats-server")
    former = {name: host.cloud.pid(name) for name in names}
    await kill(*former.values(), tree=False)
    await host.run_anew(former)
    for operation in operations:
        await delete(await active_once(tenant, host, operation))


async def active_once(tenant: Tenant, host: Host, operation: Operation) -> TestGuest:
    """The guest that the create has made: one process, activated once, of one wish."""
    guest = await created(tenant, host, operation)
    assert guest.instance.status == INSTANCE_STATUS_ACTIVE
    assert guest.process
    assert len(await guest.events(InstanceActivated)) == 1
    assert [event.attempt for event in await guest.events(InstanceDomainDesired)] == [1], "built once, on one host"
    return guest


async def seen(look: Callable[[], object], what: str) -> None:
    """Soon after it is so: what follows is to hit the middle of something."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            while not look():  # noqa: ASYNC110 - other processes do it
                await asyncio.sleep(0.002)
    except TimeoutError as error:
        raise AssertionError(f"never seen: {what}") from error


async def other_image(tenant: Tenant, folder: Path) -> Image:
    """The tiny guest with another digest: no host has it in its cache."""
    source, target = guests.build("tiny").path, folder / "other.qcow2"
    convert = ["qemu-img", "convert", "-f", "qcow2", "-O", "qcow2", "-o", "cluster_size=32k", str(source), str(target)]
    await asyncio.to_thread(subprocess.run, convert, check=True)
    return await tenant.user.images.upload(await tenant.user.images.create("other"), target)
