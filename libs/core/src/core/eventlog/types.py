"""What goes into the log and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

MAX_EVENT_BYTES = 1024 * 1024
"""The largest `data` of one event."""

MAX_APPEND_BYTES = 16 * MAX_EVENT_BYTES
"""The largest sum of `data` over the events of one append."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """An event to append.

    `version` counts from 1 and follows the aggregate's last one without a gap; `type` is the full name of the
    protobuf message that `data` holds, serialised, its sensitive fields sealed; `event_id` is minted by the
    writer, once: it is what makes an append that is sent twice count once.
    """

    aggregate_type: str
    aggregate_id: UUID
    version: int
    type: str
    data: bytes
    event_id: UUID
    schema_version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Who wrote the events of an append and why; empty where unknown. `traceparent`: W3C Trace Context."""

    actor: str = ""
    request_id: str = ""
    causation_id: str = ""
    correlation_id: str = ""
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class UniqueClaim:
    """`owner` takes the key. Nothing changes when it has it already; `UniqueViolation` when another has it."""

    scope: str
    key: str
    owner: str


@dataclass(frozen=True, slots=True)
class UniqueRelease:
    """`owner` gives the key back. Without effect when nobody or another owner has it."""

    scope: str
    key: str
    owner: str


@dataclass(frozen=True, slots=True)
class CounterAdd:
    """Adds `delta` to what is used. Up beyond the limit: `LimitExceeded`; below zero: `CounterUnderflow`."""

    scope: str
    key: str
    delta: int


@dataclass(frozen=True, slots=True)
class CounterLimit:
    """Sets the limit, None for unlimited. It may lie below what is used: then only increments are refused."""

    scope: str
    key: str
    limit: int | None


Constraint = UniqueClaim | UniqueRelease | CounterAdd | CounterLimit


@dataclass(frozen=True, slots=True)
class Append:
    """Events and the constraint rows that they imply: all are written, or none.

    The events of one aggregate are in order and contiguous. Constraints apply in their order, after the check
    of the versions; the first violation is the one that is raised. Constraints alone are refused: they derive
    from events. `patient`: nobody waits to hear of it through the bus, where it may come a moment later, with others.
    """

    events: tuple[NewEvent, ...]
    constraints: tuple[Constraint, ...] = ()
    context: Context = Context()
    patient: bool = False


@dataclass(frozen=True, slots=True)
class Appended:
    """Where an append went: its events have the positions first to last, all with one time."""

    first_position: int
    last_position: int
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """An event as the log holds it. `recorded_at` is Postgres's time (UTC) and never decreases with position."""

    position: int
    epoch: int
    event_id: UUID
    aggregate_type: str
    aggregate_id: UUID
    version: int
    type: str
    schema_version: int
    data: bytes
    recorded_at: datetime
    actor: str
    request_id: str
    causation_id: str
    correlation_id: str
    traceparent: str


@dataclass(frozen=True, slots=True)
class Head:
    """Where the log ends: position 0 when it is empty. The epoch is raised by a restore or a lossy promotion."""

    position: int
    epoch: int
    recorded_at: datetime


class Counter(NamedTuple):
    """What is used and the limit, None for unlimited."""

    used: int
    limit: int | None
