"""An older backup is restored while guests run on this machine: no guest notices, nothing of theirs is touched."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from cirra.compute.v1.compute_pb2 import INSTANCE_STATUS_ACTIVE, INSTANCE_STATUS_ERROR, Instance
from cirra.placement.v1 import differences_pb2 as pb
from cirra_sdk import AsyncClient
from deployment import guests
from deployment.demo.key import new_key
from deployment.demo.tenant import Tenant, make_tenant
from deployment.demo.userdata import user_data
from deployment.servers import servers
from tests.e2e.cloud import Cloud, running_cloud
from tests.harness.log_watch import LogWatch
from tests.harness.root import require_root

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

TIMEOUT_S = 240.0
# So that what an agent finds out by itself, it finds out soon.
_SETTINGS = {"CIRRA_DIFFERENCE_INTERVAL_S": "0.5", "CIRRA_FULL_INTERVAL_S": "2"}


@pytest_asyncio.fixture
async def cloud(log_watch: LogWatch) -> AsyncIterator[Cloud]:
    require_root("guests, bridges, namespaces")
    with log_watch.folder("cirra-e2e-") as state_dir:
        async with running_cloud(state_dir, _SETTINGS) as running:
            yield running


async def test_guests_outlive_the_restore_of_an_older_backup(cloud: Cloud, tmp_path: Path) -> None:
    async with cloud.admin() as admin:
        image = await asyncio.to_thread(guests.build, "tiny")
        tenant = await make_tenant(admin, image, "tiny", new_key(tmp_path / "id", "epochs"), print)
        a, c = await booted(tenant), await booted(tenant)
        backup = cloud.layout.root / "backup"
        await done(cloud, "backup", str(backup))
        b = await booted(tenant)
        await tenant.user.operations.wait(await tenant.user.instances.delete(c), timeout_s=TIMEOUT_S)
    before = {uid: qemu(cloud, uid) for uid in (a.uid, b.uid)}
    wired = await ports(cloud)

    await done(cloud, "down", "--keep-guests")
    assert {uid: qemu(cloud, uid) for uid in before} == before
    await done(cloud, "restore", str(backup))
    started = await cloud.deploy("up")
    assert started.code == 0, started.output

    async with cloud.admin() as admin:
        listed = await differences(admin, cloud.config.host)
        assert {(each.kind, each.object_id) for each in listed.differences if each.object_kind == "domain"} == {
            (pb.DIFFERENCE_KIND_UNKNOWN, b.uid),
            (pb.DIFFERENCE_KIND_MISSING, c.uid),
        }
        assert (listed.observe_only, listed.epoch, listed.accepted_epoch) == (True, 2, 1)
        assert (await admin.hosts.get(cloud.config.host)).observe_only
        assert {uid: qemu(cloud, uid) for uid in before} == before

        host = await admin.hosts.accept(cloud.config.host, listed.etag)
        assert not host.observe_only
        missing = await becomes(admin, c, INSTANCE_STATUS_ERROR)
        assert missing.fault.reason == "DISK_MISSING"
        assert (await becomes(admin, a, INSTANCE_STATUS_ACTIVE)).uid == a.uid
        await is_orphan(admin, cloud.config.host, b)

        # What an operator says who knows that nothing else can have noticed.
        told = await cloud.deploy("restored")
        assert told.code == 0, told.output
        assert "epoch 3 begins" in told.output
        assert "0 mended" in told.output
        again = await differences(admin, cloud.config.host)
        assert (again.epoch, again.accepted_epoch) == (3, 2)
        assert not (await admin.hosts.accept(cloud.config.host, again.etag)).observe_only
    assert {uid: qemu(cloud, uid) for uid in before} == before
    assert cloud.guest_folder(b.uid).exists(), "what the cloud does not know is not deleted"
    assert wired <= await ports(cloud)
    await remove_by_hand(cloud, b)


async def booted(tenant: Tenant) -> Instance:
    operation = await tenant.boot(user_data("tiny", "epochs"))
    await tenant.user.operations.wait(operation, timeout_s=TIMEOUT_S)
    return await tenant.user.instances.get(operation.target)


async def remove_by_hand(cloud: Cloud, instance: Instance) -> None:
    """What only a person may do to an orphan."""
    virsh = ("virsh", "--connect", servers(cloud.layout, cloud.config).libvirt_uri)
    await cloud.machine.checked(*virsh, "destroy", instance.uid)
    await cloud.machine.checked(*virsh, "undefine", instance.uid)
    await asyncio.to_thread(shutil.rmtree, cloud.guest_folder(instance.uid))


async def done(cloud: Cloud, command: str, *arguments: str) -> None:
    finished = await cloud.deploy(command, *arguments)
    assert finished.code == 0, finished.output


def qemu(cloud: Cloud, uid: str) -> int:
    """The one process that the guest is."""
    disk = str(cloud.guest_folder(uid))
    found = [int(folder.name) for folder in Path("/proc").glob("[0-9]*") if _is_qemu(folder, disk)]
    assert len(found) == 1, found
    return found[0]


def _is_qemu(process: Path, disk: str) -> bool:
    try:
        command = (process / "cmdline").read_bytes().decode(errors="replace")
    except OSError:  # it has ended
        return False
    return "qemu-system" in command.partition("\0")[0] and disk in command


async def ports(cloud: Cloud) -> set[tuple[str, int]]:
    """Taps and bridges, with the interface indexes that they have since they were made."""
    links = await cloud.machine.links()
    return {(name, link["ifindex"]) for name, link in links.items() if name.startswith(("tap", "brq"))}


async def differences(admin: AsyncClient, host: str) -> pb.HostDifferences:
    """Once the host's agents have told what they have."""
    async with asyncio.timeout(TIMEOUT_S):
        while (listed := await admin.hosts.differences(host)).awaited_agents:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    return listed


async def is_orphan(admin: AsyncClient, host: str, instance: Instance) -> None:
    """Returns once the host lists it among those."""
    async with asyncio.timeout(TIMEOUT_S):
        while instance.uid not in {it.object_id for it in (await admin.hosts.get(host)).orphans}:  # noqa: ASYNC110
            await asyncio.sleep(0.2)


async def becomes(admin: AsyncClient, instance: Instance, status: int) -> Instance:
    async with asyncio.timeout(TIMEOUT_S):
        while (now := await admin.instances.get(instance.name)).status != status:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    return now
