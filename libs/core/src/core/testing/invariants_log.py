"""The log in itself, its constraint rows, and its mirror in NATS."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from datetime import datetime
from uuid import UUID

from nats.js.errors import NotFoundError

from core.bus import Bus
from core.bus.envelope import event_subject, identity_from_message
from core.errors import Poison
from core.eventlog.errors import CounterUnderflow
from core.eventlog.log import EventLog
from core.eventlog.rebuild import Difference, UniqueDifference, recompute_constraints
from core.eventlog.types import Head, RecordedEvent
from core.repository import RecordedConstraints
from core.testing.invariants_violation import Invariant, Violation

_PAGE = 2000
_AT_ONCE = 64


async def all_events(log: EventLog, up_to: int) -> list[RecordedEvent]:
    """Every event up to a position, in order."""
    events: list[RecordedEvent] = []
    while page := await log.read(after=events[-1].position if events else 0, limit=_PAGE, up_to=up_to):
        events += page
    return events


def gaps(events: Sequence[RecordedEvent], head: Head) -> Iterator[Violation]:
    """Where positions, versions or times are not as an append makes them. *events*: all up to the head."""
    position, moment = 0, datetime.min.replace(tzinfo=head.recorded_at.tzinfo)
    versions: dict[UUID, int] = {}
    for event in events:
        where = f"position {event.position}"
        if event.position != position + 1:
            yield Violation(Invariant.LOG, where, f"follows {position}")
        if event.version != versions.get(event.aggregate_id, 0) + 1:
            last = versions.get(event.aggregate_id, 0)
            yield Violation(
                Invariant.LOG,
                where,
                f"version {event.version} of {event.aggregate_type} {event.aggregate_id} at {last}",
            )
        if event.recorded_at < moment:
            yield Violation(Invariant.LOG, where, f"recorded at {event.recorded_at}, after one of {moment}")
        position, moment = event.position, event.recorded_at
        versions[event.aggregate_id] = event.version
    if position != head.position:
        yield Violation(Invariant.LOG, "head", f"at {head.position}, the last event at {position}")


async def constraint_differences(log: EventLog) -> list[Violation]:
    """The modules with the aggregates of all events must be imported."""
    try:
        differences = await recompute_constraints(log, RecordedConstraints())
    except CounterUnderflow as error:
        return [
            Violation(Invariant.CONSTRAINTS, f"{error.scope} {error.key}", f"the events imply less than zero: {error}")
        ]
    return [_constraint(difference) for difference in differences]


def _constraint(difference: Difference) -> Violation:
    subject = f"{difference.scope} {difference.key}"
    if isinstance(difference, UniqueDifference):
        found, right = difference.found or "nobody", difference.right or "nobody"
        return Violation(Invariant.CONSTRAINTS, subject, f"the row says {found}, the events say {right}")
    return Violation(
        Invariant.CONSTRAINTS, subject, f"the row says {difference.found}, the events say {difference.right}"
    )


async def stream_differences(bus: Bus, events: Sequence[RecordedEvent]) -> list[Violation]:
    """Where stream EVENTS is not the end of the log. *events*: all, from position 1 on."""
    name = bus.subjects.events_stream
    try:
        state = (await bus.js.stream_info(name)).state
    except NotFoundError:
        return [Violation(Invariant.STREAM, name, "there is no such stream")]
    found: list[Violation] = []
    # Events that were appended since *events* were read may be in the stream already: only the reverse is wrong here.
    if state.last_seq < len(events):
        found.append(Violation(Invariant.STREAM, name, f"ends at {state.last_seq}, the log at {len(events)}"))
    held = [event for event in events if state.first_seq <= event.position <= state.last_seq]
    for start in range(0, len(held), _AT_ONCE):
        some = held[start : start + _AT_ONCE]
        answers = await asyncio.gather(*(_message_difference(bus, event) for event in some))
        found += [answer for answer in answers if answer is not None]
    return found


async def _message_difference(bus: Bus, event: RecordedEvent) -> Violation | None:
    subject = f"sequence {event.position}"
    try:
        message = await bus.js.get_msg(bus.subjects.events_stream, seq=event.position)
        identity = identity_from_message(message)
    except NotFoundError:
        return Violation(Invariant.STREAM, subject, "missing within the stream")
    except Poison as error:
        return Violation(Invariant.STREAM, subject, str(error))
    if identity != (event.event_id, event.epoch):
        return Violation(Invariant.STREAM, subject, f"holds event {identity[0]}, the log {event.event_id}")
    if message.subject != event_subject(bus.cell, event):
        return Violation(Invariant.STREAM, subject, f"is on subject {message.subject}")
    return None
