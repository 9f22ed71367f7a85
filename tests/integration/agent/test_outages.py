"""NATS goes away, in the middle of the work: nothing is lost, and nothing is acknowledged too early."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cirra.agent.v1.desired_pb2 import Orphan
from core.bus import ensure_command_consumer
from core.embedded.nats import EmbeddedNats
from core.natsauth.keys import NatsKeys
from core.pki.authority import Authority
from tests.integration.agent.world import Shelf, World, domain, until


@pytest.fixture
async def own_nats(tmp_path: Path, nats_keys: NatsKeys) -> AsyncIterator[EmbeddedNats]:
    async with EmbeddedNats(tmp_path / "nats", keys=nats_keys) as server:
        yield server


@pytest.fixture
async def own_world(
    cell_name: str, own_nats: EmbeddedNats, nats_keys: NatsKeys, authority: Authority, tmp_path: Path
) -> AsyncIterator[World]:
    made = await World.make(cell_name, own_nats.url, nats_keys, authority, tmp_path)
    yield made
    await made.close()


async def test_a_restart_of_nats_in_the_middle_loses_no_report(own_world: World, own_nats: EmbeddedNats) -> None:
    shelf = Shelf()
    shelf.open.clear()
    await own_world.start_agent(shelf)
    await own_world.command(domain("a", 1, create=True))
    await until(lambda: shelf.at_once == 1, "the command is being handled")
    await own_nats.stop()
    shelf.open.set()
    await until(lambda: "a" in shelf.things, "the work is done while NATS is away")
    assert own_world.reports_on("a") == []
    await own_nats.start()
    await own_world.until_reported("a", 1)
    # The consumer is in memory and the conductor makes it anew; what is delivered again is done already.
    await ensure_command_consumer(own_world.bus, "h1", ("compute",))
    await own_world.command(domain("b", 1, create=True))
    await own_world.until_reported("b", 1)
    await own_world.until_acknowledged()
    assert {generation for _, generation in shelf.calls_for("a")} == {1}


async def test_a_command_is_acknowledged_only_after_its_report_is_stored(
    own_world: World, own_nats: EmbeddedNats
) -> None:
    shelf = Shelf()
    shelf.open.clear()
    await own_world.start_agent(shelf)
    await own_world.command(domain("a", 1, create=True))
    await until(lambda: shelf.at_once == 1, "the command is being handled")
    reports = own_world.bus.subjects.reports_stream
    config = (await own_world.bus.js.stream_info(reports)).config
    await own_world.bus.js.delete_stream(reports)
    shelf.open.set()
    await until(lambda: "a" in shelf.things, "the work is done")
    await asyncio.sleep(0.5)
    assert await own_world.unacknowledged() == 1, "there is nowhere to report to"
    await own_world.bus.js.add_stream(config)
    await own_world.until_acknowledged()
    info = await own_world.bus.js.stream_info(reports, subjects_filter=">")
    assert info.state.subjects is not None
    assert info.state.subjects[own_world.bus.subjects.reports("h1", "compute", "DomainObserved", "a")] == 1


async def test_the_guests_are_repaired_while_nats_is_away(own_world: World, own_nats: EmbeddedNats) -> None:
    shelf = Shelf()
    await own_world.start_agent(shelf, difference_interval_s=0.05, full_interval_s=0.2, concurrency=1)
    own_world.conductor.want(domain("a", 1))
    await own_world.command(domain("a", 1, create=True))
    await own_world.until_reported("a", 1)
    await own_nats.stop()
    # What is to be told of it must not hold up the rest.
    shelf.foreign = [Orphan(kind="domain", object_id="another's")]
    asked = len(own_world.conductor.asked)
    await until(lambda: len(own_world.conductor.asked) > asked + 8, "some more comparisons")
    for generation in (2, 3):
        own_world.conductor.want(domain("a", generation))
        own_world.conductor.want(domain(f"b{generation}", 1, absent=True))
    await until(lambda: shelf.things == {"a": 2} or shelf.things == {"a": 3}, "a is as desired")
    await until(lambda: shelf.calls_for("b3"), "reports that wait don't take the slots of the work")
    await own_nats.start()
    await own_world.until_reported("a", 3)
    await own_world.until_reported("b2", 1)
    await own_world.until_reported("b3", 1)
    await until(lambda: any(report.orphans.orphans for report in own_world.reports_on("h1")), "the orphan is told")
