"""Sealed fields: gone with what they were of."""

from __future__ import annotations

from collections.abc import Sequence

from core.eventlog.log import EventLog
from core.eventlog.schema import quote_identifier
from core.eventlog.types import RecordedEvent
from core.testing.invariants_violation import Invariant, Violation


async def surviving_keys(log: EventLog, events: Sequence[RecordedEvent]) -> list[Violation]:
    """Aggregates that were deleted and still have a sealing key. *events*: all, from position 1 on."""
    deleted = {event.aggregate_id: event.aggregate_type for event in events if _is_its_deletion(event)}
    rows = await log.pool.fetch(f"SELECT aggregate_id FROM {quote_identifier(log.schema)}.sealing_keys")
    return [
        Violation(Invariant.SECRET, f"{deleted[aggregate_id]} {aggregate_id}", "is deleted, and can still be opened")
        for aggregate_id in (row["aggregate_id"] for row in rows)
        if aggregate_id in deleted
    ]


def _is_its_deletion(event: RecordedEvent) -> bool:
    """`SubnetDeleted`, of a network, is not the network's."""
    aggregate = "".join(word.capitalize() for word in event.aggregate_type.split("_"))
    return event.type.endswith(f".{aggregate}Deleted")
