"""What every hypervisor driver does, seen through the handler that the cloud's wishes come to."""

from __future__ import annotations

import asyncio

import pytest

from cirra.agent.v1.desired_pb2 import (
    DESIRED_POWER_OFF,
    DOMAIN_STATE_ABSENT,
    DOMAIN_STATE_CRASHED,
    DOMAIN_STATE_RUNNING,
    DOMAIN_STATE_SHUTOFF,
    DomainObserved,
)
from core.agent.handler import AgentFailure
from core.agent.state_folder import MARKER
from tests.contract.hypervisor.rigs import PATIENCE_S, Rig, absent, desired, make_so, new_id, until_up


async def build(rig: Rig, instance_id: str) -> DomainObserved:
    """As the saga's build step: disk and definition, not started."""
    return await make_so(rig, desired(rig, instance_id, 1, power=DESIRED_POWER_OFF, create=True))


async def run(rig: Rig, instance_id: str) -> int:
    """A guest that was built and started; its process."""
    await build(rig, instance_id)
    assert (await rig.handler.ensure(desired(rig, instance_id, 2))).state == DOMAIN_STATE_RUNNING
    return rig.process(instance_id)


async def failure_of(rig: Rig, *arguments: object, **options: object) -> AgentFailure:
    with pytest.raises(AgentFailure) as caught:
        await make_so(rig, desired(rig, *arguments, **options))  # type: ignore[arg-type]
    assert caught.value.remedy
    return caught.value


async def test_a_build_makes_disk_and_definition_and_starts_nothing(rig: Rig) -> None:
    instance_id = new_id()
    facts = await build(rig, instance_id)
    assert facts == DomainObserved(state=DOMAIN_STATE_SHUTOFF, disk_present=True, image_cached=False)
    assert rig.process(instance_id) == 0
    assert rig.state.instance(instance_id).disk.exists()
    assert await rig.handler.known_objects() == {instance_id}


async def test_a_create_makes_the_guest_and_starts_it_once(rig: Rig) -> None:
    rig.use_obedient_image()
    instance_id = new_id()
    wish = desired(rig, instance_id, 1, create=True)
    assert await make_so(rig, wish) == DomainObserved(state=DOMAIN_STATE_RUNNING, disk_present=True)
    process = rig.process(instance_id)
    inode = rig.state.instance(instance_id).disk.stat().st_ino
    await rig.start_agent()
    assert (await make_so(rig, wish)).state == DOMAIN_STATE_RUNNING
    assert (rig.process(instance_id), rig.state.instance(instance_id).disk.stat().st_ino) == (process, inode)
    await rig.shut_down_from_within(instance_id)
    assert (await make_so(rig, wish)).state == DOMAIN_STATE_SHUTOFF


async def test_a_build_again_keeps_the_disk(rig: Rig) -> None:
    instance_id = new_id()
    first = await build(rig, instance_id)
    inode = rig.state.instance(instance_id).disk.stat().st_ino
    assert await build(rig, instance_id) == first
    assert rig.state.instance(instance_id).disk.stat().st_ino == inode


async def test_the_second_guest_of_an_image_finds_it_in_the_cache(rig: Rig) -> None:
    await build(rig, new_id())
    assert (await build(rig, new_id())).image_cached


async def test_a_guest_that_runs_is_not_restarted_whatever_changes(rig: Rig) -> None:
    instance_id = new_id()
    process = await run(rig, instance_id)
    assert process
    wishes = [desired(rig, instance_id, 2), desired(rig, instance_id, 3)]
    wishes.append(desired(rig, instance_id, 4, memory_mib=128, display_name="renamed"))
    for wish in wishes:
        facts = await rig.handler.ensure(wish)
        assert facts == DomainObserved(state=DOMAIN_STATE_RUNNING, disk_present=True)
        assert rig.process(instance_id) == process


async def test_a_restart_of_the_agent_touches_no_guest(rig: Rig) -> None:
    instance_id = new_id()
    process = await run(rig, instance_id)
    await rig.start_agent()
    assert await rig.handler.known_objects() == {instance_id}
    assert (await rig.handler.ensure(desired(rig, instance_id, 2))).state == DOMAIN_STATE_RUNNING
    assert rig.process(instance_id) == process


async def test_desired_off_stops_it_and_on_starts_it(rig: Rig) -> None:
    instance_id = new_id()
    process = await run(rig, instance_id)
    off = await rig.handler.ensure(desired(rig, instance_id, 3, power=DESIRED_POWER_OFF))
    assert off == DomainObserved(state=DOMAIN_STATE_SHUTOFF, disk_present=True)
    assert rig.process(instance_id) == 0
    assert (await rig.handler.ensure(desired(rig, instance_id, 4))).state == DOMAIN_STATE_RUNNING
    assert rig.process(instance_id) not in (0, process)


@pytest.mark.parametrize("hard", [False, True], ids=["soft", "hard"])
async def test_a_new_boot_is_booted_once(rig: Rig, hard: bool) -> None:
    """Also when it is told again, before and after a restart of the agent, and under a newer generation."""
    instance_id = new_id()
    process = await run(rig, instance_id)
    inode = rig.state.instance(instance_id).disk.stat().st_ino
    wish = desired(rig, instance_id, 3, boot=1, hard_boot=hard)
    assert (await rig.handler.ensure(wish)).state == DOMAIN_STATE_RUNNING
    booted = rig.process(instance_id)
    assert booted not in (0, process)
    await rig.handler.ensure(wish)
    await rig.start_agent()
    await rig.handler.ensure(wish)
    await rig.handler.ensure(desired(rig, instance_id, 4, boot=1, hard_boot=hard))
    assert rig.process(instance_id) == booted
    assert rig.state.instance(instance_id).disk.stat().st_ino == inode


async def test_a_guest_that_is_off_is_not_booted_twice_for_its_new_boot(rig: Rig) -> None:
    instance_id = new_id()
    await build(rig, instance_id)
    await rig.handler.ensure(desired(rig, instance_id, 2, boot=1))
    process = rig.process(instance_id)
    assert process
    await rig.handler.ensure(desired(rig, instance_id, 2, boot=1))
    assert rig.process(instance_id) == process


async def test_a_new_boot_has_the_new_definition(rig: Rig) -> None:
    instance_id = new_id()
    await run(rig, instance_id)
    guest = await rig.driver.observe(instance_id)
    assert guest is not None and guest.boot == 0
    await rig.handler.ensure(desired(rig, instance_id, 3, boot=2, memory_mib=128))
    guest = await rig.driver.observe(instance_id)
    assert guest is not None and guest.boot == 2


async def test_a_guest_that_shut_itself_down_is_started_by_a_new_boot(rig: Rig) -> None:
    rig.use_obedient_image()
    instance_id = new_id()
    await run(rig, instance_id)
    await rig.shut_down_from_within(instance_id)
    assert (await rig.handler.ensure(desired(rig, instance_id, 2))).state == DOMAIN_STATE_SHUTOFF
    assert (await rig.handler.ensure(desired(rig, instance_id, 3, boot=1))).state == DOMAIN_STATE_RUNNING


async def test_remove_leaves_nothing_but_the_image(rig: Rig) -> None:
    instance_id = new_id()
    await run(rig, instance_id)
    bases = sorted(path.name for path in rig.state.image_cache.iterdir())
    for _ in range(2):
        assert await rig.handler.remove(absent(instance_id, 3)) == DomainObserved(state=DOMAIN_STATE_ABSENT)
        assert rig.process(instance_id) == 0
        assert not rig.state.instance(instance_id).path.exists()
        assert await rig.handler.known_objects() == set()
    assert sorted(path.name for path in rig.state.image_cache.iterdir()) == bases


async def test_to_remove_what_never_was_is_success(rig: Rig) -> None:
    assert await rig.handler.remove(absent(new_id(), 1)) == DomainObserved(state=DOMAIN_STATE_ABSENT)


async def test_a_guest_of_others_is_told_and_not_touched(rig: Rig) -> None:
    instance_id = new_id()
    rig.add_foreign(instance_id)
    process = rig.process(instance_id)
    assert process
    assert await rig.driver.guests() == set()
    [stranger] = await rig.handler.strangers()
    assert (stranger.kind, stranger.object_id) == ("domain", instance_id) and instance_id in stranger.description
    failure = await failure_of(rig, instance_id, 1, power=DESIRED_POWER_OFF, create=True)
    assert failure.reason == "DOMAIN_FOREIGN"
    assert (await rig.handler.remove(absent(instance_id, 2))).state == DOMAIN_STATE_ABSENT
    assert rig.process(instance_id) == process


async def test_reconcile_never_makes_a_disk(rig: Rig) -> None:
    instance_id = new_id()
    failure = await failure_of(rig, instance_id, 1)
    assert failure.reason == "DISK_MISSING"
    assert await rig.handler.known_objects() == set()


async def test_a_guest_without_its_disk_is_not_started(rig: Rig) -> None:
    instance_id = new_id()
    await build(rig, instance_id)
    disk = rig.state.instance(instance_id).disk
    disk.unlink()
    for create in (False, True):
        assert (await failure_of(rig, instance_id, 2, create=create)).reason == "DISK_MISSING"
        assert rig.process(instance_id) == 0
        assert not disk.exists()


async def test_a_guest_that_runs_without_its_disk_goes_on(rig: Rig) -> None:
    instance_id = new_id()
    process = await run(rig, instance_id)
    rig.state.instance(instance_id).disk.unlink()
    assert (await failure_of(rig, instance_id, 2)).reason == "DISK_MISSING"
    assert rig.process(instance_id) == process


async def test_nothing_is_made_below_a_mount_point_that_is_not_mounted(rig: Rig) -> None:
    instance_id = new_id()
    process = await run(rig, instance_id)
    rig.state.path.rename(rig.state.path.with_name("elsewhere"))
    rig.state.path.mkdir()
    other = new_id()
    assert (await failure_of(rig, other, 1, create=True)).reason == "STATE_FOLDER_MISSING"
    with pytest.raises(AgentFailure) as caught:
        await rig.handler.remove(absent(instance_id, 3))
    assert caught.value.reason == "STATE_FOLDER_MISSING"
    assert list(rig.state.path.iterdir()) == []
    rig.state.path.rmdir()
    rig.state.path.with_name("elsewhere").rename(rig.state.path)
    assert (rig.state.path / MARKER).exists()
    assert rig.process(instance_id) == process


async def test_a_crash_is_told_at_once_and_repaired(rig: Rig) -> None:
    instance_id = new_id()
    process = await run(rig, instance_id)

    async def wait_for_crash() -> DomainObserved:
        async for changed in rig.driver.changes():
            seen = await rig.handler.observe(changed)
            if seen is not None and seen.facts.state == DOMAIN_STATE_CRASHED:
                return seen.facts
        raise AssertionError("changes ended")

    told = asyncio.create_task(wait_for_crash())
    rig.crash(instance_id)
    async with asyncio.timeout(PATIENCE_S):
        assert (await told).disk_present
    assert (await rig.handler.ensure(desired(rig, instance_id, 2))).state == DOMAIN_STATE_RUNNING
    assert rig.process(instance_id) not in (0, process)


async def test_a_guest_that_shut_itself_down_is_not_started_by_reconcile(rig: Rig) -> None:
    rig.use_obedient_image()
    instance_id = new_id()
    await run(rig, instance_id)
    await rig.shut_down_from_within(instance_id)
    for _ in range(2):
        assert (await rig.handler.ensure(desired(rig, instance_id, 2))).state == DOMAIN_STATE_SHUTOFF
        await rig.start_agent()
    assert (await rig.handler.ensure(desired(rig, instance_id, 3))).state == DOMAIN_STATE_RUNNING


async def test_a_flavor_that_is_too_small_for_the_image_leaves_nothing(rig: Rig) -> None:
    instance_id = new_id()
    rig.image.virtual_size_bytes = 5 << 30
    failure = await failure_of(rig, instance_id, 1, create=True, disk_gib=4)
    assert failure.reason == "FLAVOR_DISK_TOO_SMALL"
    assert "5 GiB" in failure.remedy
    assert not rig.state.instance(instance_id).disk.exists()


async def test_a_type_of_guests_that_the_host_does_not_run_is_refused(rig: Rig) -> None:
    failure = await failure_of(rig, new_id(), 1, create=True, virt_type="kvm")
    assert failure.reason == "VIRT_TYPE_UNSUPPORTED"
    assert failure.reschedule


async def test_the_console_can_be_read(rig: Rig) -> None:
    rig.use_obedient_image()
    instance_id = new_id()
    assert await rig.driver.console_tail(instance_id, 100) == b""
    await run(rig, instance_id)
    await until_up(rig, instance_id)
    assert len(await rig.driver.console_tail(instance_id, 10)) == 10


async def test_the_host_tells_what_it_has(rig: Rig) -> None:
    host = await rig.driver.host()
    assert host.vcpus > 0
    assert host.memory_mib > 0
    assert host.disk_gib > 0
    assert host.cpu_arch == "x86_64"
    assert host.hypervisor_version
    assert rig.virt_type in rig.driver.info.virt_types
