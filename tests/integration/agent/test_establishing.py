"""What holds data is made once, by a command that may create, whatever brings that command again."""

from __future__ import annotations

from cirra.agent.v1.desired_pb2 import DOMAIN_STATE_ABSENT, DesiredObject
from core.agent.generations import GenerationStore
from core.agent.handler import AgentFailure
from tests.integration.agent.world import Shelf, World, domain, until

OFTEN = {"difference_interval_s": 0.05, "full_interval_s": 0.2}
CREATE = domain("a", 1, create=True)


async def lost(world: World, shelf: Shelf) -> None:
    """It is made, and then lost by itself."""
    await world.command(CREATE)
    await world.until_reported("a", 1)
    shelf.things.clear()


async def reason_of(world: World, wish: DesiredObject, count: int) -> str:
    """Why the host could not do what it was told once more; empty: it could."""
    await world.command(wish)
    return (await world.until_reported(wish.object_id, wish.generation, count)).failure.reason


async def test_the_command_that_comes_again_makes_nothing_in_the_place_of_what_was_lost(world: World) -> None:
    shelf = Shelf()
    agent = await world.start_agent(shelf)
    await lost(world, shelf)
    assert await reason_of(world, CREATE, 2) == "DISK_MISSING"
    await agent.stop()
    await world.start_agent(shelf)
    assert await reason_of(world, CREATE, 3) == "DISK_MISSING"
    assert await reason_of(world, domain("a", 2, create=True), 1) == "DISK_MISSING", "nor does a newer one"
    assert (shelf.things, shelf.established) == ({}, [("a", 1)])


async def test_desired_state_makes_nothing_even_where_it_says_so(world: World) -> None:
    shelf = Shelf()
    await world.start_agent(shelf, **OFTEN)
    for object_id in ("a", "b"):
        world.conductor.table["domain", object_id] = (world.conductor.position, domain(object_id, 1, create=True))
        world.conductor.position += 1
    await until(lambda: min(len(shelf.calls_for(it)) for it in ("a", "b")) > 2, "differences and all of it were seen")
    assert (shelf.things, shelf.established) == ({}, [])
    await world.command(CREATE)
    assert not (await world.until_reported("a", 1)).HasField("failure")


async def test_it_is_noted_on_disk_before_anything_uses_what_was_made(world: World) -> None:
    shelf = Shelf()
    shelf.open.clear()
    agent = await world.start_agent(shelf)
    await world.command(CREATE)
    await until(lambda: shelf.at_once == 1, "it was made, and its use has not ended")
    assert GenerationStore(world.identity().folder / "compute").is_established("domain", "a")
    await agent.stop()
    shelf.things.clear()
    shelf.open.set()
    await world.start_agent(shelf)
    assert (await world.until_reported("a", 1)).failure.reason == "DISK_MISSING"
    assert shelf.things == {}


async def test_what_a_crash_has_left_unnoted_is_found_again(world: World) -> None:
    """The making is over, and the note is not on disk: the command comes again, and finds what is there."""
    shelf = Shelf()
    shelf.things["a"] = 7
    await world.start_agent(shelf)
    await world.command(CREATE)
    assert not (await world.until_reported("a", 1)).HasField("failure")
    assert shelf.established == [("a", 1)]


async def test_what_could_not_be_made_may_be_made_by_the_next_command(world: World) -> None:
    shelf = Shelf()
    shelf.unmakable.append(AgentFailure("no image", reason="IMAGE_DOWNLOAD_FAILED"))
    await world.start_agent(shelf)
    assert await reason_of(world, CREATE, 1) == "IMAGE_DOWNLOAD_FAILED"
    assert shelf.calls == []
    assert await reason_of(world, CREATE, 2) == ""


async def test_what_was_removed_may_be_made_anew(world: World) -> None:
    shelf = Shelf()
    await world.start_agent(shelf)
    assert await reason_of(world, CREATE, 1) == ""
    await world.command(domain("a", 2, absent=True))
    assert (await world.until_reported("a", 2)).domain.state == DOMAIN_STATE_ABSENT
    assert await reason_of(world, domain("a", 3, create=True), 1) == ""
    assert shelf.established == [("a", 1), ("a", 3)]
