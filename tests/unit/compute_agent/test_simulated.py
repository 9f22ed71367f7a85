"""What the simulated driver can do that real guests can't: fail on demand, take its time, lose its host's power."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from cirra.agent.v1.desired_pb2 import (
    DESIRED_POWER_ON,
    DOMAIN_STATE_RUNNING,
    DOMAIN_STATE_SHUTOFF,
    DesiredObject,
    DomainSpec,
    ImageRef,
)
from compute_agent.drivers.base import HostFacts
from compute_agent.drivers.simulated import FAULTS_FILE, SimulatedDriver
from compute_agent.handlers.domain import DomainHandler
from compute_agent.instances import StateFolder
from compute_agent.inventory import inventory_source
from core.agent.handler import AgentFailure
from core.errors import Poison

ID = "0197a000-0000-7000-8000-00000000aa01"
CAPACITY = HostFacts(vcpus=8, memory_mib=1024, disk_gib=50, cpu_arch="x86_64", cpu_model="m", hypervisor_version="v")


class Host:
    def __init__(self, folder: Path) -> None:
        (folder / "host").mkdir()
        self.state = StateFolder(folder / "state", folder / "host")
        self.state.initialise()
        self.slept: list[float] = []
        self.boot("boot-1")

    def boot(self, boot_id: str, latency_s: float = 0.0) -> None:
        async def sleep(seconds: float) -> None:
            self.slept.append(seconds)

        self.driver = SimulatedDriver(
            state=self.state, capacity=CAPACITY, boot_id=boot_id, latency_s=latency_s, sleep=sleep
        )
        self.handler = DomainHandler(self.driver, self.state)

    def faults(self, *rules: dict[str, Any]) -> None:
        (self.state.path / FAULTS_FILE).write_text(json.dumps(rules))

    async def ensure(self, generation: int = 1, *, create: bool = True) -> int:
        wanted = wish(generation, create=create)
        if create:
            await self.handler.establish(wanted)
        return (await self.handler.ensure(wanted)).state


def wish(generation: int, *, create: bool) -> DesiredObject:
    spec = DomainSpec(
        instance_id=ID,
        display_name="web-1",
        virt_type="simulated",
        image=ImageRef(sha256="0" * 64, disk_format="raw"),
        power=DESIRED_POWER_ON,
    )
    return DesiredObject(kind="domain", object_id=ID, generation=generation, create=create, domain=spec)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.mark.parametrize("operation", ["create_disk", "define", "start"])
async def test_a_fault_fails_one_operation_of_the_named_guests(host: Host, operation: str) -> None:
    host.faults({"match": "web-*", "operation": operation, "reason": "NO_LUCK", "reschedule": True})
    with pytest.raises(AgentFailure) as caught:
        await host.ensure()
    assert (caught.value.reason, caught.value.reschedule) == ("NO_LUCK", True)
    host.faults({"match": "db-*", "operation": operation, "reason": "NO_LUCK"})
    assert await host.ensure() == DOMAIN_STATE_RUNNING


async def test_a_fault_may_strike_a_number_of_times(host: Host) -> None:
    host.faults({"match": ID, "operation": "start", "reason": "NO_LUCK", "times": 2})
    for _ in range(2):
        with pytest.raises(AgentFailure):
            await host.ensure()
    assert await host.ensure() == DOMAIN_STATE_RUNNING


async def test_a_fault_may_only_take_time(host: Host) -> None:
    host.boot("boot-1", latency_s=0.25)
    host.faults({"match": "*", "operation": "start", "latency_s": 5.0})
    assert await host.ensure() == DOMAIN_STATE_RUNNING
    assert host.slept == [0.25, 0.25, 5.25]


async def test_a_hosts_boot_turns_all_guests_off_and_reconcile_starts_them(host: Host) -> None:
    await host.ensure()
    host.boot("boot-2")
    observed = await host.driver.observe(ID)
    assert observed is not None
    assert observed.state == DOMAIN_STATE_SHUTOFF
    assert await host.ensure(create=False) == DOMAIN_STATE_RUNNING


async def test_a_guest_that_shut_itself_down_stays_down_when_its_create_comes_again(host: Host) -> None:
    await host.ensure()
    host.driver.shut_down_from_within(ID)
    for life in ("this one", "the next"):
        assert await host.ensure() == DOMAIN_STATE_SHUTOFF, life
        host.boot("boot-1")
    assert await host.ensure(2) == DOMAIN_STATE_RUNNING, "a newer wish starts it"


async def test_a_guest_that_shut_itself_down_stays_down_though_the_agent_died_as_it_started_it(host: Host) -> None:
    start = host.driver.start

    async def start_and_die(spec: DomainSpec) -> None:
        await start(spec)
        raise asyncio.CancelledError

    with pytest.MonkeyPatch.context() as patched, pytest.raises(asyncio.CancelledError):
        patched.setattr(host.driver, "start", start_and_die)
        await host.ensure()
    host.driver.shut_down_from_within(ID)
    host.boot("boot-1")
    assert await host.ensure() == DOMAIN_STATE_SHUTOFF


async def test_a_start_is_done_though_the_agent_died_before_it(host: Host) -> None:
    """Of a guest that had shut itself down before: that must not be taken for what came of the start."""
    await host.ensure()
    host.driver.shut_down_from_within(ID)

    async def die(spec: DomainSpec) -> None:
        raise asyncio.CancelledError

    with pytest.MonkeyPatch.context() as patched, pytest.raises(asyncio.CancelledError):
        patched.setattr(host.driver, "start", die)
        await host.ensure(2)
    host.boot("boot-1")
    assert await host.ensure(2) == DOMAIN_STATE_RUNNING


async def test_after_a_failure_the_failure_is_what_there_is_to_say(host: Host) -> None:
    await host.ensure()
    host.faults({"match": "*", "operation": "define", "reason": "NO_LUCK"})
    with pytest.raises(AgentFailure):
        await host.ensure(2)
    assert await host.handler.observe(ID) is None
    host.faults()
    await host.ensure(2)
    seen = await host.handler.observe(ID)
    assert seen is not None
    assert (seen.generation, seen.facts.state) == (2, DOMAIN_STATE_RUNNING)
    await host.handler.remove(DesiredObject(object_id=ID, absent=True))
    assert await host.handler.observe(ID) is None


async def test_a_spec_for_another_object_is_poison(host: Host) -> None:
    desired = wish(1, create=True)
    desired.object_id = "0197a000-0000-7000-8000-00000000aa02"
    for act in (host.handler.establish, host.handler.ensure):
        with pytest.raises(Poison):
            await act(desired)


async def test_a_host_whose_storage_fails_says_so(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(spec: DomainSpec) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(host.driver, "create_disk", full)
    with pytest.raises(AgentFailure, match="No space left") as caught:
        await host.ensure()
    assert (caught.value.reason, caught.value.reschedule) == ("HOST_STORAGE_FAILED", True)


async def test_the_inventory_says_simulated_and_has_no_disk_without_its_file_system(host: Host) -> None:
    inventory = inventory_source(host.driver, host.state)
    assert list((await inventory()).virt_types) == ["simulated"]
    assert ((await inventory()).vcpus, (await inventory()).disk_gib) == (8, 50)
    host.state.path.rename(host.state.path.with_name("away"))
    assert (await inventory()).disk_gib == 0


async def test_a_disk_that_is_put_in_anothers_place_is_looked_at_again(tmp_path: Path) -> None:
    host = Host(tmp_path)
    await host.ensure()
    first = await host.driver.disk(ID)
    assert first is not None and not first.image_cached
    await host.driver.remove(ID)
    assert await host.driver.disk(ID) is None
    await host.ensure(2)
    second = await host.driver.disk(ID)
    assert second is not None and second.image_cached


async def test_a_create_makes_three_inodes(host: Host) -> None:
    """The folder, the guest with its disk and console, and the note that it was on: each is dear (`write_in_place`)."""
    await host.ensure()
    folder = host.state.instance(ID)
    assert await host.driver.console_tail(ID, 1000)
    files = {file.name: file.stat().st_ino for file in folder.path.iterdir()}
    assert files[folder.disk.name] and len(set(files.values())) == 2, files


async def test_a_disk_is_no_guest_and_is_made_anew_while_there_is_none(host: Host) -> None:
    spec = wish(1, create=True).domain
    await host.driver.create_disk(spec)
    for life in ("this one", "the next"):
        assert (await host.driver.guests(), await host.driver.observe(ID)) == (set(), None), life
        host.boot("boot-2")
    host.state.instance(ID).disk.unlink()
    assert await host.driver.disk(ID) is None
    assert await host.ensure() == DOMAIN_STATE_RUNNING


async def test_a_disk_is_made_though_the_agent_died_as_it_made_it(host: Host) -> None:
    def die(source: object, target: object) -> None:
        raise asyncio.CancelledError

    with pytest.MonkeyPatch.context() as patched, pytest.raises(asyncio.CancelledError):
        patched.setattr("os.link", die)
        await host.ensure()
    host.boot("boot-1")
    assert await host.driver.disk(ID) is None
    assert await host.ensure() == DOMAIN_STATE_RUNNING


async def test_the_console_keeps_the_end_over_many_boots_and_a_restart(host: Host) -> None:
    for boot in range(200):
        await host.driver.define(wish(1, create=True).domain, 1)
        await host.driver.stop(ID, grace_s=0)
        await host.driver.start(DomainSpec(instance_id=ID, hostname=f"web-{boot}", vcpus=2))
    host.boot("boot-1")
    assert (await host.driver.console_tail(ID, 1 << 16)).endswith(
        b"web-198 booted: 2 vCPU\nsimulated guest web-199 booted: 2 vCPU\n"
    )
    assert await host.driver.console_tail(ID, 7) == b"2 vCPU\n"
    assert len(list(host.state.instance(ID).path.iterdir())) == 1
    assert (host.state.instance(ID).path / "simulated.json").stat().st_size < 4096


async def test_a_guest_that_another_process_has_changed_is_read_again(tmp_path: Path) -> None:
    host = Host(tmp_path)
    assert await host.ensure() == DOMAIN_STATE_RUNNING
    SimulatedDriver(state=host.state, capacity=CAPACITY, boot_id="boot-1").shut_down_from_within(ID)
    seen = await host.driver.observe(ID)
    assert seen is not None
    assert (seen.state, seen.shut_down_by_guest) == (DOMAIN_STATE_SHUTOFF, True)
