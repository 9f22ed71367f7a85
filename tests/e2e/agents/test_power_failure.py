"""A host loses its power, and comes back to a cloud that is away, or without its data disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from cirra.compute.v1.compute_pb2 import INSTANCE_STATUS_ACTIVE, INSTANCE_STATUS_ERROR, POWER_STATE_RUNNING
from deployment.demo.tenant import Tenant
from tests.e2e.agents.guest import TestGuest, create, delete, reached, running_guest
from tests.e2e.agents.host import Host

pytestmark = [pytest.mark.root, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

# What would be started at all is started within a fraction of it.
_QUIET_S = 3.0


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def guest(tenant: Tenant, host: Host) -> AsyncIterator[TestGuest]:
    async with running_guest(tenant, host) as made:
        yield made


async def test_no_guest_starts_before_the_cloud_was_heard(host: Host, guest: TestGuest) -> None:
    await guest.write_mark("before-the-failure")
    with host.frozen("net-agent"):
        # A command from before the failure that nobody has handled: it must wait as well.
        operation = await create(guest.tenant)
        await reached(guest.tenant, operation, "bind_port")
        with host.frozen("conductor-1"):
            await host.reboot("second boot")
            await asyncio.sleep(_QUIET_S)
            assert host.guest_side() == {}
            assert await host.wired() == []
    # How the other one ends, whose host fell in the middle of it, is not the matter here.
    await delete(TestGuest(guest.tenant, host, await guest.tenant.user.instances.get(operation.target)))
    # On the disk that it had, on the network that it had.
    assert await guest.read_mark() == "before-the-failure"
    await guest.becomes(lambda it: it.status == INSTANCE_STATUS_ACTIVE, "ACTIVE")


async def test_without_its_data_disk_a_host_makes_no_blank_one(host: Host, guest: TestGuest) -> None:
    await guest.write_mark("on-the-disk")
    await host.reboot("third boot", while_down=host.disk.unmount)
    failed = await guest.becomes(lambda it: it.status == INSTANCE_STATUS_ERROR, "ERROR")
    assert failed.fault.reason == "STATE_FOLDER_MISSING"
    assert str(host.cloud.guest_folder(guest.uid) / "disk") in failed.fault.message
    assert "mount" in failed.fault.remedy
    assert failed.power_state != POWER_STATE_RUNNING
    assert (host.guest_side(), await host.wired()) == ({}, [])
    assert list(host.disk.mount_point.iterdir()) == [], "nothing is made in the empty mount point"

    await host.disk.mount()
    back = await guest.becomes(lambda it: it.status == INSTANCE_STATUS_ACTIVE, "ACTIVE again")
    assert not back.HasField("fault")
    assert await guest.read_mark() == "on-the-disk"
