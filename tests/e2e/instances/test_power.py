"""A real guest is stopped, started and rebooted: by ACPI where it is asked, without asking where it is not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from cirra.compute.v1.compute_pb2 import INSTANCE_STATUS_ACTIVE, INSTANCE_STATUS_SHUTOFF, Instance
from cirra.operations.v1.operations_pb2 import Operation
from deployment import guests
from deployment.demo import facts
from deployment.demo.key import new_key
from deployment.demo.tenant import Tenant, make_tenant
from deployment.demo.userdata import user_data
from tests.e2e.cloud import Cloud, eventually

pytestmark = [pytest.mark.root, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

ASKED = "TINY power button"
BOOTED = "TINY user-script user data done"


@dataclass(frozen=True, slots=True)
class Guest:
    """A tiny guest that runs and has fetched its metadata."""

    cloud: Cloud
    tenant: Tenant
    uid: str

    @property
    def disk(self) -> Path:
        return self.cloud.guest_folder(self.uid) / "disk"

    def console(self) -> str:
        return (self.cloud.guest_folder(self.uid) / "console.log").read_text(errors="replace")

    def processes(self) -> list[int]:
        """QEMU's."""
        return [
            process.pid
            for process in psutil.process_iter(["name", "cmdline"])
            if process.info["name"].startswith("qemu") and self.uid in " ".join(process.info["cmdline"] or ())
        ]

    async def after(self, beginning: Awaitable[Operation]) -> Instance:
        operation = await self.tenant.user.operations.wait(await beginning, timeout_s=120)
        return await self.tenant.user.instances.get(operation.target)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def guest(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guest]:
    image = guests.build("tiny")
    public_key = new_key(tmp_path_factory.mktemp("key") / "id", "e2e")
    async with cloud.admin() as admin:
        tenant = await make_tenant(admin, image, "tiny", public_key, print)
        operation = await tenant.boot(user_data("tiny", "from-user-data"))
        await tenant.user.operations.wait(operation, timeout_s=120)
        instance = await facts.wait_seen(tenant.user, operation.target)
        yield Guest(cloud, tenant, instance.uid)
        await tenant.user.operations.wait(await tenant.user.instances.delete(instance.name), timeout_s=120)


async def test_stopped_by_acpi_started_and_rebooted_on_one_disk(guest: Guest) -> None:
    instances = guest.tenant.user.instances
    inode = guest.disk.stat().st_ino
    await eventually(lambda: BOOTED in guest.console(), "the guest is up")

    stopped = await guest.after(instances.stop(guest.uid))
    assert (stopped.status, guest.processes()) == (INSTANCE_STATUS_SHUTOFF, [])
    assert guest.console().count(ASKED) == 1

    started = await guest.after(instances.start(guest.uid))
    [process] = guest.processes()
    assert started.status == INSTANCE_STATUS_ACTIVE
    await eventually(lambda: guest.console().count(BOOTED) == 2, "the guest is up again")

    rebooted = await guest.after(instances.reboot(guest.uid, hard=True))
    [anew] = guest.processes()
    assert (rebooted.status, anew != process) == (INSTANCE_STATUS_ACTIVE, True)
    assert guest.console().count(ASKED) == 1, "a hard reboot does not ask"
    await eventually(lambda: guest.console().count(BOOTED) == 3, "the guest is up once more")

    await guest.after(instances.reboot(guest.uid))
    assert guest.console().count(ASKED) == 2
    assert guest.processes() not in ([], [anew])
    assert guest.disk.stat().st_ino == inode
