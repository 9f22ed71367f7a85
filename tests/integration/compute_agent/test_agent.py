"""The whole agent between a real NATS, a conductor and a hypervisor: commands in, facts out."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from uuid import uuid4

import pytest

from cirra.agent.v1.desired_pb2 import (
    DESIRED_POWER_OFF,
    DESIRED_POWER_ON,
    DOMAIN_STATE_ABSENT,
    DOMAIN_STATE_CRASHED,
    DOMAIN_STATE_RUNNING,
    DOMAIN_STATE_SHUTOFF,
    DesiredPower,
    DomainSpec,
    ImageRef,
    InventoryObserved,
)
from compute_agent.drivers.simulated import FAULTS_FILE
from core.ids import uuid7
from deployment import guests
from deployment.libvirtd import PrivateLibvirtd
from tests.harness.log_watch import LogWatch
from tests.integration.agent.world import HOST, until
from tests.integration.compute_agent.cloud import (
    ComputeWorld,
    ImageGateway,
    TicketingConductor,
    domain_wish,
    image_ref,
)

ID = str(uuid7())


def spec(power: DesiredPower.ValueType, *, virt_type: str = "simulated", image: ImageRef | None = None) -> DomainSpec:
    return DomainSpec(
        instance_id=ID,
        display_name="web-1",
        vcpus=1,
        memory_mib=96,
        disk_gib=1,
        virt_type=virt_type,
        image=image or ImageRef(sha256="0" * 64, disk_format="raw"),
        power=power,
    )


OFF, ON = spec(DESIRED_POWER_OFF), spec(DESIRED_POWER_ON)


def inventories(world: ComputeWorld) -> list[InventoryObserved]:
    return [report.inventory for report in world.reports_on(HOST) if report.HasField("inventory")]


@pytest.fixture
def libvirtd(log_watch: LogWatch) -> Iterator[PrivateLibvirtd]:
    with log_watch.folder("cirra-lv-", "/tmp") as root:
        daemon = PrivateLibvirtd(root, uuid4())
        daemon.start()
        yield daemon
        daemon.stop(destroy_guests=True)


async def test_a_simulated_guests_life(world: ComputeWorld) -> None:
    await world.start_compute_agent(driver="simulated", simulated_vcpus=12)
    await world.command(domain_wish(1, ON, create=True))
    made = await world.until_reported(ID, 1)
    assert (made.domain.state, made.domain.disk_present) == (DOMAIN_STATE_RUNNING, True)
    assert made.effort.establishing_us > 0 < made.effort.ensuring_us
    await world.command(domain_wish(2, OFF))
    stopped = await world.until_reported(ID, 2)
    assert (stopped.domain.state, stopped.effort.establishing_us) == (DOMAIN_STATE_SHUTOFF, 0)
    await world.command(domain_wish(3, ON, absent=True))
    assert (await world.until_reported(ID, 3)).domain.state == DOMAIN_STATE_ABSENT
    await until(lambda: inventories(world), "the inventory is reported")
    assert (list(inventories(world)[0].virt_types), inventories(world)[0].vcpus) == (["simulated"], 12)


async def test_a_failure_names_reason_and_remedy(world: ComputeWorld) -> None:
    await world.start_compute_agent(driver="simulated")
    rule = {"match": "web-*", "operation": "create_disk", "reason": "NO_LUCK", "reschedule": True}
    (world.folder / "state" / FAULTS_FILE).write_text(json.dumps([rule]))
    await world.command(domain_wish(1, OFF, create=True))
    failure = (await world.until_reported(ID, 1)).failure
    assert (failure.reason, failure.reschedule) == ("NO_LUCK", True)
    assert failure.remedy


async def test_a_host_whose_state_folder_is_not_mounted_at_boot_makes_no_blank_disk(world: ComputeWorld) -> None:
    first = await world.start_compute_agent(driver="simulated")
    await world.command(domain_wish(1, OFF, create=True))
    await world.until_reported(ID, 1)
    world.conductor.want(domain_wish(1, OFF))
    await first.close()
    state = world.folder / "state"
    state.rename(world.folder / "unmounted")
    state.mkdir()
    (world.folder / "boot_id").write_text("boot-2\n")
    await world.start_compute_agent(driver="simulated")
    await until(lambda: world.reports_on(ID)[-1].HasField("failure"), "the failure is reported")
    assert world.reports_on(ID)[-1].failure.reason == "STATE_FOLDER_MISSING"
    assert list(state.iterdir()) == []
    await until(lambda: inventories(world)[-1].disk_gib == 0, "no room for disks is offered")


async def test_the_process_killed_and_started_again_goes_on(world: ComputeWorld) -> None:
    agent = await world.start_compute_agent_process(driver="simulated")
    await world.command(domain_wish(1, ON, create=True))
    assert (await world.until_reported(ID, 1)).domain.state == DOMAIN_STATE_RUNNING
    guest = (world.folder / "state/instances" / ID / "simulated.json").read_text()
    agent.kill()
    await agent.wait()
    world.conductor.want(domain_wish(2, ON))

    agent = await world.start_compute_agent_process(driver="simulated")
    assert (await world.until_reported(ID, 2)).domain.state == DOMAIN_STATE_RUNNING
    later = (world.folder / "state/instances" / ID / "simulated.json").read_text()
    assert json.loads(later)["process"] == json.loads(guest)["process"], "the guest was not restarted"
    agent.terminate()
    assert await agent.wait() == 0


@pytest.mark.parametrize("lost", ["the disk", "all of it"])
async def test_a_create_that_comes_again_after_a_kill_makes_no_blank_disk(world: ComputeWorld, lost: str) -> None:
    agent = await world.start_compute_agent_process(driver="simulated")
    await world.command(domain_wish(1, ON, create=True))
    await world.until_reported(ID, 1)
    agent.kill()
    await agent.wait()
    folder = world.folder / "state/instances" / ID
    if lost == "all of it":
        shutil.rmtree(folder)
    else:
        (folder / "disk").unlink()
    await world.start_compute_agent_process(driver="simulated")
    await world.command(domain_wish(1, ON, create=True))
    assert (await world.until_reported(ID, 1, count=2)).failure.reason == "DISK_MISSING"
    assert not (folder / "disk").exists()


@pytest.mark.root
async def test_a_real_guests_life(world: ComputeWorld, libvirtd: PrivateLibvirtd) -> None:
    tiny = guests.build("tiny")
    gateway = ImageGateway(world.authority, world.folder / "gateway-tls", tiny.path)
    assert isinstance(world.conductor, TicketingConductor)
    world.conductor.url = await gateway.start()
    on = spec(DESIRED_POWER_ON, virt_type="qemu", image=image_ref(tiny))
    try:
        agent = await world.start_compute_agent(libvirt_uri=libvirtd.uri)
        await world.command(domain_wish(1, on, create=True))
        made = (await world.until_reported(ID, 1)).domain
        assert (made.state, made.disk_present, made.image_cached) == (DOMAIN_STATE_RUNNING, True, False)
        assert gateway.requests == [""]
        [process] = libvirtd.guest_pids()

        world.conductor.want(domain_wish(1, on))
        await agent.close()
        told = len(world.reports_on(ID))
        await world.start_compute_agent(libvirt_uri=libvirtd.uri)
        await until(lambda: world.reports_on(ID)[told:], "the agent has looked")
        assert libvirtd.guest_pids() == [process], "a restart of the agent touches no guest"
        assert list(inventories(world)[0].virt_types) == ["qemu"]

        told = len(world.reports_on(ID))
        os.kill(process, signal.SIGKILL)
        await until(lambda: len(world.reports_on(ID)) >= told + 2, "crash and repair are reported")
        crashed, repaired = world.reports_on(ID)[told : told + 2]
        assert (crashed.domain.state, crashed.generation) == (DOMAIN_STATE_CRASHED, 1)
        assert crashed.domain.disk_present
        assert repaired.domain.state == DOMAIN_STATE_RUNNING
        assert libvirtd.guest_pids() not in ([], [process])

        await world.command(domain_wish(2, on, absent=True))
        assert (await world.until_reported(ID, 2)).domain.state == DOMAIN_STATE_ABSENT
        assert libvirtd.guest_pids() == []
        assert [path.name for path in (world.folder / "state/instances").iterdir()] == ["_base"]
    finally:
        await gateway.stop()
