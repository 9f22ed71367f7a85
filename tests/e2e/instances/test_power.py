"""A real guest is stopped, started and rebooted: by ACPI where it is asked, without asking where it is not."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from cirra.compute.v1.compute_pb2 import INSTANCE_STATUS_ACTIVE, INSTANCE_STATUS_SHUTOFF, POWER_STATE_SHUTDOWN, Instance
from cirra.operations.v1.operations_pb2 import Operation
from deployment import guests
from deployment.demo import facts
from deployment.demo.key import new_key
from deployment.demo.tenant import Tenant, make_tenant
from deployment.demo.userdata import UserData, user_data
from tests.e2e.cloud import Cloud, comes_true, eventually

pytestmark = [pytest.mark.root, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

# Emulated guests, and others who want the processors.
TIMEOUT_S = 240.0
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
        operation = await self.tenant.user.operations.wait(await beginning, timeout_s=TIMEOUT_S)
        return await self.tenant.user.instances.get(operation.target)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def guest(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guest]:
    image = guests.build("tiny")
    public_key = new_key(tmp_path_factory.mktemp("key") / "id", "e2e")
    async with cloud.admin() as admin:
        tenant = await make_tenant(admin, image, "tiny", public_key, print)
        operation = await tenant.boot(user_data("tiny", "from-user-data"))
        await tenant.user.operations.wait(operation, timeout_s=TIMEOUT_S)
        instance = await facts.wait_seen(tenant.user, operation.target)
        yield Guest(cloud, tenant, instance.uid)
        await tenant.user.operations.wait(await tenant.user.instances.delete(instance.name), timeout_s=TIMEOUT_S)


async def test_stopped_by_acpi_started_and_rebooted_on_one_disk(guest: Guest) -> None:
    instances = guest.tenant.user.instances
    inode = guest.disk.stat().st_ino
    await eventually(lambda: BOOTED in guest.console(), "the guest is up")

    stopped = await guest.after(instances.stop(guest.uid))
    assert (stopped.status, guest.processes()) == (INSTANCE_STATUS_SHUTOFF, [])
    await eventually(lambda: guest.console().count(ASKED) == 1, "what it said in the end")

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
    await eventually(lambda: guest.console().count(ASKED) == 2, "what it said in the end")
    assert guest.processes() not in ([], [anew])
    assert guest.disk.stat().st_ino == inode


async def test_the_console_is_read_from_afar(guest: Guest) -> None:
    instances = guest.tenant.user.instances
    await eventually(lambda: BOOTED in guest.console(), "the guest is up")

    async def as_it_is() -> bool:
        """It may still boot, and say more from one look to the next."""
        told = (await instances.console_output(guest.uid)).output
        [line] = (await instances.console_output(guest.uid, lines=1)).output.splitlines()
        return told.count(BOOTED) == guest.console().count(BOOTED) and line == told.splitlines()[-1]

    await comes_true(as_it_is, "the console, and its last line")


async def test_a_guest_that_powers_itself_off_is_shutoff_and_stays_off(guest: Guest) -> None:
    """Until somebody starts it: also when its agent has died and looks around anew."""
    cloud, user = guest.cloud, guest.tenant.user
    operation = await guest.tenant.boot(UserData("#!/bin/sh\nsleep 3; echo leaving; poweroff\n", "leaving"))
    await user.operations.wait(operation, timeout_s=TIMEOUT_S)
    own = Guest(cloud, guest.tenant, operation.target.rpartition("/")[2])
    async with asyncio.timeout(TIMEOUT_S):
        async for change in user.instances.watch(own.uid):
            if change.instance.status == INSTANCE_STATUS_SHUTOFF:
                break
    assert change.instance.power_state == POWER_STATE_SHUTDOWN
    assert own.processes() == []

    former = cloud.pid("compute-agent")
    os.kill(former, signal.SIGKILL)
    await eventually(lambda: cloud.runs_anew("compute-agent", former), "the agent is up again")
    # What it finds on its host is compared with what is desired before it takes this, and again after.
    assert "leaving" in (await user.instances.console_output(own.uid)).output
    assert own.processes() == []
    assert (await user.instances.get(own.uid)).status == INSTANCE_STATUS_SHUTOFF

    assert (await own.after(user.instances.start(own.uid))).status == INSTANCE_STATUS_ACTIVE
    assert len(own.processes()) == 1
    await user.operations.wait(await user.instances.delete(own.uid), timeout_s=TIMEOUT_S)
