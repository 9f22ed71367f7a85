"""The event log: append, read, wait, leases, rebuild of the constraint rows. See docs/adr/0005-event-log.md."""

from __future__ import annotations

from core.eventlog.errors import (
    CounterUnderflow,
    InvalidAppend,
    LeaseLost,
    LimitExceeded,
    LogUnavailable,
    SchemaMismatch,
    UniqueViolation,
    VersionConflict,
)
from core.eventlog.leases import HeldLease, Lease, Leases
from core.eventlog.log import EventLog
from core.eventlog.types import (
    Append,
    Appended,
    Constraint,
    Context,
    Counter,
    CounterAdd,
    CounterLimit,
    Head,
    NewEvent,
    RecordedEvent,
    UniqueClaim,
    UniqueRelease,
)

__all__ = [
    "Append",
    "Appended",
    "Constraint",
    "Context",
    "Counter",
    "CounterAdd",
    "CounterLimit",
    "CounterUnderflow",
    "EventLog",
    "Head",
    "HeldLease",
    "InvalidAppend",
    "Lease",
    "LeaseLost",
    "Leases",
    "LimitExceeded",
    "LogUnavailable",
    "NewEvent",
    "RecordedEvent",
    "SchemaMismatch",
    "UniqueClaim",
    "UniqueRelease",
    "UniqueViolation",
    "VersionConflict",
]
