"""Events to append, and what a test may ask of a stream: is it the log's mirror?"""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

from nats.js.errors import NotFoundError

from core.bus import Bus
from core.bus.envelope import recorded_event_from_message
from core.eventlog import Append, Context, EventLog, NewEvent
from core.projection.reader import StreamReader

CONTEXT = Context(actor="somebody", request_id="r", causation_id="c", correlation_id="k", traceparent="00-1-2-01")


def new_event(payload: str = "x", *, aggregate_id: UUID | None = None, version: int = 1) -> NewEvent:
    return NewEvent(
        aggregate_type="instance",
        aggregate_id=aggregate_id or uuid4(),
        version=version,
        type="cirra.compute.v1.InstanceCreated",
        data=payload.encode(),
        event_id=uuid4(),
    )


async def append(log: EventLog, count: int = 1, *, payload: str = "x", per_append: int = 100) -> int:
    """Appends so many events; returns the last position."""
    last = 0
    while count > 0:
        events = tuple(new_event(f"{payload}{n}") for n in range(min(count, per_append)))
        last = (await log.append(Append(events=events, context=CONTEXT))).last_position
        count -= len(events)
    return last


async def until_stream_at(bus: Bus, position: int, timeout_s: float = 60.0) -> None:
    """Until EVENTS has the sequence; the stream may be missing meanwhile."""
    async with asyncio.timeout(timeout_s):
        while await last_sequence(bus) < position:  # noqa: ASYNC110 — a server is asked, nobody tells
            await asyncio.sleep(0.01)


async def last_sequence(bus: Bus) -> int:
    """0 when there is no stream."""
    await bus.wait_connected()
    try:
        return (await bus.js.stream_info(bus.subjects.events_stream)).state.last_seq
    except NotFoundError:
        return 0


async def assert_mirrors(bus: Bus, log: EventLog, *, first: int = 1) -> None:
    """Each message from `first` to the stream's last is the log's event with that position, in every field."""
    state = (await bus.js.stream_info(bus.subjects.events_stream)).state
    assert state.first_seq == first
    assert state.last_seq == (await log.head()).position
    assert state.messages == state.last_seq - first + 1
    reader = StreamReader(bus)
    assert await reader.open(first)
    position = first - 1
    while position < state.last_seq:
        messages = await reader.fetch(500, timeout_s=10)
        assert messages, f"no message after {position}"
        recorded = await log.read(after=position, limit=len(messages))
        assert [message.metadata.sequence.stream for message in messages] == [e.position for e in recorded]
        assert [recorded_event_from_message(message) for message in messages] == recorded
        position = recorded[-1].position
    await reader.close()


async def lose_events(log: EventLog, *, after: int) -> None:
    """What the restore of an older backup does: the log ends at this position, and does not know that it was longer."""
    await _cut(log, after, raises=0)


async def restore_log(log: EventLog, position: int) -> None:
    """As `lose_events`, and it has been noticed: the log is in a new epoch."""
    await _cut(log, position, raises=1)


async def _cut(log: EventLog, position: int, *, raises: int) -> None:
    async with log.pool.acquire() as connection, connection.transaction():
        await connection.execute(f'DELETE FROM "{log.schema}".events WHERE position > $1', position)
        await connection.execute(f'UPDATE "{log.schema}".head SET position = $1, epoch = epoch + $2', position, raises)
