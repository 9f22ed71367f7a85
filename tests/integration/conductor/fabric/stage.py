"""A real log with the fabric's projection on it, written to by scripts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

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
from tests.harness.fabric_history import FLAT, VXLAN, Happening, History, Script
from tests.integration.projection.conftest import running


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
        async with asyncio.timeout(60):
            while await self.sent() < count:  # noqa: ASYNC110 - a server is asked, nobody tells
                await asyncio.sleep(0.01)

    async def until_told(self, key: Key) -> None:
        """Once a command for it is stored."""
        async with asyncio.timeout(60):
            while key not in await self.commands():  # noqa: ASYNC110 - a server is asked, nobody tells
                await asyncio.sleep(0.05)


def _new_event(happening: Happening) -> NewEvent:
    return NewEvent(
        aggregate_type=happening.aggregate_type,
        aggregate_id=happening.aggregate_id,
        version=happening.version,
        type=happening.message.DESCRIPTOR.full_name,
        data=happening.message.SerializeToString(deterministic=True),
        event_id=uuid7(),
    )


@asynccontextmanager
async def telling(stage: Stage) -> AsyncIterator[Projector]:
    """An active projector that tells."""
    teller = Teller(stage.bus)
    task = asyncio.create_task(teller.run())
    projector = stage.projector(outlet=teller)
    try:
        async with running(projector):
            head = (await stage.log.head()).position
            assert head and await projector.wait_for(head, timeout=60)
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
