"""What happened to an aggregate, and what that constrains."""

from __future__ import annotations

from google.protobuf.message import Message

from core.aggregate import Aggregate, constraints_of
from core.errors import InvalidArgument
from core.eventlog.types import Constraint


def happened(aggregate: Aggregate) -> list[Message]:
    """The messages of what was not saved yet."""
    return [event.data for event in aggregate.pending_events]  # type: ignore[attr-defined]


def constrained(aggregate: Aggregate) -> list[Constraint]:
    """The constraint rows of what was not saved yet."""
    return [constraint for message in happened(aggregate) for constraint in constraints_of(aggregate.id, message)]


def saved(aggregate: Aggregate) -> None:
    """Forgets what happened so far, as a save does."""
    aggregate.pending_events.clear()


def refused_fields(error: InvalidArgument) -> set[str]:
    return {violation.field for violation in error.violations}
