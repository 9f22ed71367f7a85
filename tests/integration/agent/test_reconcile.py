"""What the agent does without a command: at its start, on its timer, after a boot, with the conductor away."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from nats.aio.msg import Msg

from cirra.agent.v1.desired_pb2 import (
    DOMAIN_STATE_ABSENT,
    DOMAIN_STATE_RUNNING,
    Heartbeat,
    InventoryObserved,
    Orphan,
    Report,
)
from core.agent.handler import AgentFailure
from tests.integration.agent.world import HOST, PATIENCE_S, Shelf, World, domain, until

OFTEN = {"difference_interval_s": 0.05, "full_interval_s": 0.2}


async def build(world: World, shelf: Shelf, object_id: str, generation: int = 1) -> None:
    """As a saga does: wish, command, and the report."""
    world.conductor.want(domain(object_id, generation))
    await world.command(domain(object_id, generation, create=True))
    await world.until_reported(object_id, generation)


async def test_the_start_repairs_what_changed_meanwhile(world: World) -> None:
    shelf = Shelf()
    agent = await world.start_agent(shelf)
    await build(world, shelf, "a")
    await build(world, shelf, "b")
    await agent.stop()
    # Missed commands: one to change, one to remove.
    world.conductor.want(domain("a", 2))
    world.conductor.want(domain("b", 2, absent=True))
    await world.start_agent(shelf)
    await world.until_reported("a", 2)
    assert (await world.until_reported("b", 2)).domain.state == DOMAIN_STATE_ABSENT
    assert shelf.things == {"a": 2}


async def test_a_missed_command_is_found_by_the_timer(world: World) -> None:
    shelf = Shelf()
    await world.start_agent(shelf, difference_interval_s=0.05, full_interval_s=600.0)
    await build(world, shelf, "a")
    world.conductor.want(domain("a", 2))
    await world.until_reported("a", 2)
    assert world.conductor.asked[0] == 0
    assert all(since > 0 for since in world.conductor.asked[1:]), "only what changed is asked for"


async def test_what_a_command_has_made_is_not_made_again_because_it_is_new(world: World) -> None:
    """Each command is in the next difference. What changes by itself is found by the full comparison."""
    shelf = Shelf()
    agent = await world.start_agent(shelf, difference_interval_s=0.05, full_interval_s=600.0)
    await world.command(domain("a", 1, create=True))
    await world.until_reported("a", 1)
    await world.until_acknowledged()
    asked = len(world.conductor.asked)
    world.conductor.want(domain("a", 1))
    world.conductor.want(domain("b", 2, absent=True))
    await until(lambda: len(shelf.calls_for("b")) > 0, "the difference was acted on")
    await until(lambda: len(world.conductor.asked) > asked + 3, "and was asked for again")
    assert shelf.calls_for("a") == [("ensure", 1)]
    shelf.errors = [AgentFailure("no", reason="NO_LUCK")]
    world.conductor.want(domain("a", 2))
    await until(lambda: world.reports_on("a")[-1].failure.reason == "NO_LUCK", "a failure is told")
    world.conductor.want(domain("a", 2))
    await until(lambda: world.reports_on("a")[-1].domain.state == DOMAIN_STATE_RUNNING, "and is not taken for made")
    agent.runtime.nudge()
    await until(lambda: shelf.calls_for("a").count(("ensure", 2)) == 3, "everything is looked at")


async def test_an_object_that_vanished_by_itself_is_an_error_and_is_not_made_anew(world: World) -> None:
    shelf = Shelf()
    await world.start_agent(shelf, **OFTEN)
    await build(world, shelf, "a")
    shelf.things.clear()
    await until(lambda: world.reports_on("a")[-1].failure.reason == "DISK_MISSING", "the loss is reported")
    count = len(world.reports_on("a"))
    asked = len(world.conductor.asked)
    await until(lambda: len(world.conductor.asked) > asked + 8, "it goes on looking")
    assert shelf.things == {}
    assert len(world.reports_on("a")) == count, "and says so once"


async def test_a_build_whose_command_is_under_way_is_not_failed_by_the_timer(world: World) -> None:
    shelf = Shelf()
    await world.start_agent(shelf, **OFTEN)
    world.conductor.want(domain("a", 1))
    await until(lambda: len(shelf.calls_for("a")) >= 3, "the timer has seen that it is not there")
    assert world.reports_on("a") == []
    await world.command(domain("a", 1, create=True))
    report = await world.until_reported("a", 1)
    assert not report.HasField("failure")
    assert "a" in shelf.things


async def test_a_build_whose_command_never_comes_is_reported_in_the_end(world: World) -> None:
    shelf = Shelf()
    await world.start_agent(shelf, **OFTEN, unbuilt_grace_s=0.5)
    world.conductor.want(domain("a", 1))
    assert (await world.until_reported("a", 1)).failure.reason == "DISK_MISSING"


async def test_a_removal_is_confirmed_until_the_conductor_has_heard(world: World) -> None:
    shelf = Shelf()
    await world.start_agent(shelf, **OFTEN)
    world.conductor.want(domain("a", 2, absent=True))
    await world.until_reported("a", 2, count=3)
    world.conductor.forget(domain("a", 2))
    async with asyncio.timeout(PATIENCE_S):
        while await said_more(world, "a"):  # what was sent before may come late
            continue


async def said_more(world: World, object_id: str) -> bool:
    """Whether anything was reported of it during some more comparisons."""
    asked, count = len(world.conductor.asked), len(world.reports_on(object_id))
    await until(lambda: len(world.conductor.asked) > asked + 8, "some more comparisons")
    return len(world.reports_on(object_id)) > count


def orphans_told(world: World) -> list[list[str]]:
    """Of each report of orphans, their ids."""
    reports = [report for report in world.reports_on(HOST) if report.WhichOneof("facts") == "orphans"]
    return [[orphan.object_id for orphan in report.orphans.orphans] for report in reports]


async def test_orphans_are_told_as_a_list_whenever_it_changes_and_are_left_alone(world: World) -> None:
    shelf = Shelf()
    shelf.things = {"stray": 0}
    await world.start_agent(shelf, **OFTEN)
    await build(world, shelf, "a")
    await until(lambda: orphans_told(world) == [["stray"]], "the orphan is told")
    asked = len(world.conductor.asked)
    await until(lambda: len(world.conductor.asked) > asked + 8, "some more comparisons")
    assert orphans_told(world) == [["stray"]], "once"
    shelf.foreign = [Orphan(kind="domain", object_id="another's", description="not ours")]
    await until(lambda: orphans_told(world)[1:] == [["another's", "stray"]], "another one came")
    # What can't be looked at has not gone.
    shelf.dark = True
    asked = len(world.conductor.asked)
    await until(lambda: len(world.conductor.asked) > asked + 8, "some more comparisons")
    assert len(orphans_told(world)) == 2
    shelf.dark, shelf.foreign = False, []
    del shelf.things["stray"]
    await until(lambda: orphans_told(world)[2:] == [[]], "a person has tidied up")
    assert shelf.calls_for("stray") == [] == shelf.calls_for("another's")


async def test_what_only_a_command_named_so_far_is_no_orphan(world: World) -> None:
    shelf = Shelf()
    await world.start_agent(shelf, **OFTEN)
    # The conductor's table is behind its commands.
    await world.command(domain("a", 1, create=True))
    await world.until_reported("a", 1)
    asked = len(world.conductor.asked)
    await until(lambda: len(world.conductor.asked) > asked + 8, "some more comparisons")
    assert [report.WhichOneof("facts") for report in world.reports_on("a")] == ["domain"]


async def test_the_timer_waits_for_the_command_that_is_being_handled(world: World) -> None:
    shelf = Shelf()
    shelf.open.clear()
    await world.start_agent(shelf, **OFTEN)
    await world.command(domain("a", 1, create=True))
    await until(lambda: shelf.at_once == 1, "the command is being handled")
    world.conductor.want(domain("a", 1))
    asked = len(world.conductor.asked)
    await until(lambda: len(world.conductor.asked) > asked + 8, "some comparisons")
    assert shelf.calls_for("a") == [("ensure", 1)]
    shelf.open.set()
    await until(lambda: len(shelf.calls_for("a")) > 1, "then it is the timer's turn")
    assert shelf.most_at_once == 1


async def test_a_restart_touches_nothing_and_its_reports_are_younger(world: World) -> None:
    shelf = Shelf()
    for generation in (1, 2, 3):
        agent = await world.start_agent(shelf)
        await build(world, shelf, "a", generation)
        await agent.stop()
    assert [verb for verb, _, _ in shelf.calls] == ["ensure"] * len(shelf.calls), "nothing was removed"
    sequences = [report.sequence for report in world.reports_on("a")]
    assert len(sequences) >= 3
    assert all(earlier < later for earlier, later in pairwise(sequences))


async def test_after_a_boot_commands_wait_for_the_desired_state(world: World) -> None:
    shelf = Shelf()
    agent = await world.start_agent(shelf)
    await build(world, shelf, "a")
    await agent.stop()
    (world.folder / "boot_id").write_text("boot-2\n")
    await world.stop_conductor()
    await world.start_agent(shelf)
    calls = len(shelf.calls)
    # From before the fall: what the conductor wants now is something else.
    await world.command(domain("a", 2))
    world.conductor.want(domain("a", 3, absent=True))
    await asyncio.sleep(0.5)
    assert len(shelf.calls) == calls, "no guest is started on the word of an old command"
    assert await world.unacknowledged() == 1
    await world.start_conductor()
    report = await world.until_reported("a", 3)
    assert report.boot_id == "boot-2"
    await world.until_acknowledged()
    assert ("ensure", 2) not in shelf.calls_for("a")


async def test_within_a_boot_a_command_is_handled_without_the_conductor(world: World) -> None:
    shelf = Shelf()
    agent = await world.start_agent(shelf)
    await build(world, shelf, "a")
    await agent.stop()
    await world.stop_conductor()
    await world.start_agent(shelf)
    await world.command(domain("b", 1, create=True))
    await world.until_reported("b", 1)
    assert "b" in shelf.things
    await world.start_conductor()


async def test_heartbeats_inventory_and_background(world: World) -> None:
    beats: list[Heartbeat] = []
    stop = asyncio.Event()
    vcpus = 4

    async def hear(message: Msg) -> None:
        beats.append(Heartbeat.FromString(message.data))

    async def inventory() -> InventoryObserved:
        return InventoryObserved(vcpus=vcpus, virt_types=["simulated"])

    def inventories() -> list[Report]:
        return [report for report in world.reports_on("h1") if report.HasField("inventory")]

    async def background() -> None:
        await stop.wait()

    await world.bus.subscribe(world.bus.subjects.heartbeats("h1", "compute"), hear)
    agent = await world.start_agent(
        Shelf(), inventory=inventory, background={"events": background}, inventory_interval_s=0.05
    )
    await until(lambda: len(beats) >= 3, "it beats")
    first = beats[0].sequence
    assert [beat.sequence for beat in beats[:3]] == [first, first + 1, first + 2]
    assert (beats[0].component, beats[0].instance, beats[0].boot_id) == ("compute", "h1", "boot-1")
    await until(lambda: len(inventories()) == 1, "the inventory is reported")
    await asyncio.sleep(0.3)
    assert len(inventories()) == 1, "and not again while it is the same"
    vcpus = 8
    await until(lambda: len(inventories()) == 2, "its change is reported")
    assert [report.inventory.vcpus for report in inventories()] == [4, 8]
    # A part that ends takes the agent down: it must not look healthy.
    stop.set()
    await until(agent.task.done, "the agent ends")
    assert isinstance(agent.task.exception(), ExceptionGroup)
