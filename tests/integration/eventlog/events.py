"""Events for tests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from uuid import UUID

from core.eventlog import Append, Appended, Constraint, Context, EventLog, NewEvent
from core.ids import uuid7


def new_event(aggregate_id: UUID, version: int, data: bytes = b"data") -> NewEvent:
    return NewEvent(
        aggregate_type="thing",
        aggregate_id=aggregate_id,
        version=version,
        type="cirra.test.v1.ThingHappened",
        data=data,
        event_id=uuid7(),
    )


def new_append(
    *constraints: Constraint,
    aggregate_id: UUID | None = None,
    version: int = 1,
    events: int = 1,
    context: Context | None = None,
) -> Append:
    """An append of some events of one aggregate, a new one by default."""
    aggregate_id = aggregate_id or uuid7()
    versions = range(version, version + events)
    return Append(tuple(new_event(aggregate_id, v) for v in versions), constraints, context or Context())


async def append_together(log: EventLog, appends: Iterable[Append]) -> list[Appended | BaseException]:
    """Appends that are queued in one go, in this order, and so share a batch; what became of each."""
    return await asyncio.gather(*(log.append(append) for append in appends), return_exceptions=True)


async def read_all(log: EventLog, after: int = 0) -> list[tuple[int, UUID]]:
    """Position and event id of all that follows."""
    return [(event.position, event.event_id) for event in await log.read(after=after, limit=1_000_000)]
