"""The fabric's projection on a real log: rows as a fold in memory has them, and each change told to its host once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from nats.js.errors import NotFoundError

from cirra.agent.v1.desired_pb2 import DesiredObject
from conductor.fabric import rows
from conductor.fabric.derivation import Key
from conductor.fabric.projection import FabricProjection
from conductor.fabric.state import FabricState
from conductor.fabric.teller import Teller
from core.bus import Bus
from core.eventlog import Append, EventLog, Leases, NewEvent
from core.ids import uuid7
from core.projection import Projector
from core.relay import Relay
from core.testing.invariants import Invariant
from core.testing.servers import Cell
from tests.harness.fabric_history import ACTIVE, FLAT, INACTIVE, VXLAN, Happening, History, Script, uid
from tests.integration.bus.journal import append as append_others
from tests.integration.projection.conftest import running


@pytest.fixture
def invariants() -> frozenset[Invariant]:
    """Made-up events imply no constraints; the rows are those of a rebuild nevertheless."""
    return frozenset({Invariant.LOG, Invariant.STREAM, Invariant.READ_MODEL})


@dataclass
class Stage:
    """A log that is written to, and what hosts are told of it."""

    log: EventLog
    bus: Bus
    leases: Leases
    schema: str
    state: FabricState
    memory: History

    async def play(self, script: Script, *, per_append: int = 7) -> int:
        """Appends what happens in the script; the last position."""
        happenings, position = script.take(), 0
        for begin in range(0, len(happenings), per_append):
            some = happenings[begin : begin + per_append]
            position = (await self.log.append(Append(events=tuple(map(_new_event, some))))).last_position
        for event in await self.log.read(after=self.memory.position, limit=10_000):
            self.memory.take_in(event)
        return position

    def projector(self, **options: Any) -> Projector:
        return Projector(
            FabricProjection(options.pop("outlet", None)),
            log=self.log,
            bus=self.bus,
            leases=self.leases,
            schema=self.schema,
            holder=options.pop("holder", "p1"),
            stall_s=0.3,
            **options,
        )

    async def rows(self) -> dict[Key, rows.Row]:
        found = await self.log.pool.fetch(
            f'SELECT host, kind, object_id, generation, absent, spec FROM "{self.schema}".fabric_objects'
        )
        return {
            (row["host"], row["kind"], row["object_id"]): rows.Row(
                row["generation"], None if row["absent"] else row["spec"]
            )
            for row in found
        }

    async def commands(self) -> dict[Key, DesiredObject]:
        """The last one for each object: the stream keeps no other."""
        stream, found = self.bus.subjects.commands_stream, {}
        for sequence in range(1, await self.sent() + 1):
            with suppress(NotFoundError):
                desired = DesiredObject.FromString((await self.bus.js.get_msg(stream, sequence)).data or b"")
                found[desired.host, desired.kind, desired.object_id] = desired
        return found

    async def sent(self) -> int:
        """How many commands were ever stored."""
        return int((await self.bus.js.stream_info(self.bus.subjects.commands_stream)).state.last_seq)

    async def until_sent(self, count: int) -> None:
        async with asyncio.timeout(20):
            while await self.sent() < count:  # noqa: ASYNC110 - a server is asked, nobody tells
                await asyncio.sleep(0.01)


def _new_event(happening: Happening) -> NewEvent:
    return NewEvent(
        aggregate_type=happening.aggregate_type,
        aggregate_id=happening.aggregate_id,
        version=happening.version,
        type=happening.message.DESCRIPTOR.full_name,
        data=happening.message.SerializeToString(deterministic=True),
        event_id=uuid7(),
    )


@pytest_asyncio.fixture
async def stage(cell: Cell, log: EventLog, bus: Bus, leases: Leases) -> AsyncIterator[Stage]:
    schema = f"{cell.name}_conductor"
    async with running(Relay(log, leases, bus, holder="r1", ack_timeout_s=0.5, idle_check_s=0.2)):
        yield Stage(log, bus, leases, schema, FabricState(log.pool, schema), History())


@asynccontextmanager
async def telling(stage: Stage) -> AsyncIterator[Projector]:
    """An active projector that tells."""
    teller = Teller(stage.bus)
    task = asyncio.create_task(teller.run())
    projector = stage.projector(outlet=teller)
    try:
        async with running(projector):
            head = (await stage.log.head()).position
            assert head and await projector.wait_for(head, timeout=20)
            yield projector
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def three_hosts() -> Script:
    script = Script()
    for number, host in enumerate("abc", 1):
        script.host(host, f"192.0.2.{number}")
    script.network("n", VXLAN)
    script.network("flat", FLAT)
    script.subnet("s", "n")
    return script


def anything(script: Script, rng: random.Random, steps: int) -> None:
    """Ports come, move and go; hosts and networks change."""
    for step in range(steps):
        port, host = f"p{rng.randrange(12)}", rng.choice("abc")
        network = "n" if int(port[1:]) % 3 else "flat"
        match rng.randrange(6):
            case 0 | 1:
                script.bind(port, host, network, rng.choice([ACTIVE, INACTIVE]))
            case 2:
                script.unbind(port, host)
            case 3:
                script.no_port(port)
            case 4:
                script.tunnel(host, f"192.0.2.{rng.randrange(3)}")
            case 5:
                script.subnet(f"s{step}", network)


@pytest.mark.parametrize("batch", [1, 500])
async def test_rows_are_those_of_a_fold_in_memory_however_events_are_gathered(stage: Stage, batch: int) -> None:
    script, rng = three_hosts(), random.Random(batch)
    projector = stage.projector(batch=batch)
    async with running(projector):
        for _ in range(4):
            anything(script, rng, 60)
            assert await projector.wait_for(await stage.play(script), timeout=30)
        live = await stage.rows()
        assert live == stage.memory.rows and live
        await projector.rebuild()
        assert await stage.rows() == live, "from zero, too"


async def test_another_replica_goes_on_with_what_is_stored(stage: Stage) -> None:
    script, rng = three_hosts(), random.Random(1)
    for holder in ("p1", "p2", "p3"):
        projector = stage.projector(holder=holder)
        async with running(projector):
            anything(script, rng, 40)
            assert await projector.wait_for(await stage.play(script), timeout=30)
    assert await stage.rows() == stage.memory.rows


async def test_each_change_is_told_to_the_hosts_that_it_concerns(stage: Stage) -> None:
    script = three_hosts()
    await stage.play(script)
    async with telling(stage) as projector:
        script.bind("p", "a", "n")
        script.bind("q", "b", "n")
        await projector.wait_for(await stage.play(script), timeout=20)
        # Two networks, two peers.
        await stage.until_sent(4)
        told = await stage.commands()
        assert told.keys() == stage.memory.rows.keys()
        for key, desired in told.items():
            assert desired.generation == stage.memory.rows[key].generation and desired.epoch == 1
            assert (desired.agent, desired.absent) == ("net", False)
        assert told["a", "peer", uid("q")].peer.tunnel_address == "192.0.2.2"
        script.unbind("q", "b")
        await projector.wait_for(await stage.play(script), timeout=20)
        await stage.until_sent(7)
        gone = {key for key, desired in (await stage.commands()).items() if desired.absent}
        assert gone == {("b", "network", uid("n")), ("b", "peer", uid("p")), ("a", "peer", uid("q"))}
        assert not any(host == "c" for host, _, _ in await stage.commands())


async def test_what_happened_before_is_not_told_again(stage: Stage) -> None:
    """Neither by a replica that takes over, nor by a rebuild: hosts find it by their next difference."""
    script = three_hosts()
    script.bind("p", "a", "n")
    await stage.play(script)
    async with telling(stage) as projector:
        await projector.rebuild()
        script.bind("q", "b", "n")
        await projector.wait_for(await stage.play(script), timeout=20)
        await stage.until_sent(3)
        assert ("a", "network", uid("n")) not in await stage.commands()
        assert await stage.sent() == 3


async def test_a_host_that_is_down_or_may_not_act_is_not_told(stage: Stage) -> None:
    script = three_hosts()
    script.bind("p", "a", "n")
    script.bind("q", "b", "n")
    await stage.play(script)
    async with telling(stage) as projector:
        script.down("b")
        script.bind("r", "c", "n")
        await projector.wait_for(await stage.play(script), timeout=20)
        await stage.until_sent(4)
        assert {host for host, _, _ in await stage.commands()} == {"a", "c"}
        script.up("b")
        script.tunnel("a", "192.0.2.77")
        await projector.wait_for(await stage.play(script), timeout=20)
        await stage.until_sent(6)
        assert ("b", "peer", uid("p")) in await stage.commands()


async def test_differences_tell_what_is_gone_and_answers_of_all_leave_it_out(stage: Stage) -> None:
    script = three_hosts()
    script.bind("p", "a", "n")
    script.bind("q", "b", "n")
    projector = stage.projector()
    async with running(projector):
        before = await stage.play(script)
        script.unbind("q", "b")
        await projector.wait_for(await stage.play(script), timeout=20)
        changed = await stage.state.of_host("a", before)
        assert [(it.kind, it.object_id, it.absent) for it in changed] == [("peer", uid("q"), True)]
        whole = await stage.state.of_host("a", 0)
        assert [(it.kind, it.object_id, it.absent) for it in whole] == [("network", uid("n"), False)]
        assert await stage.state.of_host("b", 0) == []


@pytest.mark.breaks("READ_MODEL")  # the checker rebuilds with eras of their usual length
async def test_what_is_gone_for_long_is_forgotten_the_same_way_live_and_from_zero(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "ERA", 50)
    script = three_hosts()
    script.bind("p", "a", "n")
    script.bind("q", "b", "n")
    script.unbind("q", "b")
    projector = stage.projector()
    async with running(projector):
        gone = await stage.play(script)
        assert await projector.wait_for(gone, timeout=20)
        assert {key for key, row in (await stage.rows()).items() if row.spec is None}
        await append_others(stage.log, 150)
        script.tunnel("a", "192.0.2.50")
        head = await stage.log.head()
        assert await projector.wait_for(await stage.play(script), timeout=20)
        assert rows.kept_after(head.position) > gone
        live = await stage.rows()
        assert live == {("a", "network", uid("n")): stage.memory.rows["a", "network", uid("n")]}
        await projector.rebuild()
        assert await stage.rows() == live
