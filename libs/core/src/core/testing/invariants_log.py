"""The log in itself, its constraint rows, and its mirror in NATS."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from uuid import UUID

from nats.aio.msg import Msg
from nats.js.errors import NotFoundError

from core.bus import Bus
from core.bus.envelope import event_subject, identity_from_message
from core.errors import Poison
from core.eventlog.errors import CounterUnderflow
from core.eventlog.log import EventLog
from core.eventlog.rebuild import Difference, UniqueDifference, recompute_constraints
from core.eventlog.types import Head, RecordedEvent
from core.projection.reader import StreamReader
from core.repository import RecordedConstraints
from core.testing.invariants_violation import Invariant, Violation

_PAGE = 2000
_STREAM_TIMEOUT_S = 2.0


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


async def stream_differences(bus: Bus, events: Sequence[RecordedEvent], *, resting: bool = False) -> list[Violation]:
    """Where stream EVENTS is not the end of the log. *events*: all, from position 1 on. *resting*: no relay works, so
    the stream may end earlier, or not be there."""
    name = bus.subjects.events_stream
    try:
        state = (await bus.js.stream_info(name)).state
    except NotFoundError:
        return [] if resting else [Violation(Invariant.STREAM, name, "there is no such stream")]
    found: list[Violation] = []
    # Events that were appended since *events* were read may be in the stream already: only the reverse is wrong here.
    if state.last_seq < len(events) and not resting:
        found.append(Violation(Invariant.STREAM, name, f"ends at {state.last_seq}, the log at {len(events)}"))
    messages = await _messages(bus, state.first_seq, state.last_seq) if state.messages else {}
    held = [event for event in events if state.first_seq <= event.position <= state.last_seq]
    differences = (_difference(bus, event, messages.get(event.position)) for event in held)
    return found + [difference for difference in differences if difference is not None]


async def _messages(bus: Bus, first: int, last: int) -> dict[int, Msg]:
    """By sequence; those that can't be had are missing."""
    messages: dict[int, Msg] = {}
    reader = StreamReader(bus)
    await reader.open(first)
    try:
        while reader.is_open and max(messages, default=first - 1) < last:
            page = await reader.fetch(_PAGE, timeout_s=_STREAM_TIMEOUT_S)
            if not page:
                break
            messages |= {message.metadata.sequence.stream: message for message in page}
    finally:
        await reader.close()
    return messages


def _difference(bus: Bus, event: RecordedEvent, message: Msg | None) -> Violation | None:
    subject = f"sequence {event.position}"
    if message is None:
        return Violation(Invariant.STREAM, subject, "missing within the stream")
    try:
        identity = identity_from_message(message)
    except Poison as error:
        return Violation(Invariant.STREAM, subject, str(error))
    if identity != (event.event_id, event.epoch):
        return Violation(Invariant.STREAM, subject, f"holds event {identity[0]}, the log {event.event_id}")
    if message.subject != event_subject(bus.cell, event):
        return Violation(Invariant.STREAM, subject, f"is on subject {message.subject}")
    return None
