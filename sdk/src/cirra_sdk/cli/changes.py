"""What of a thing is otherwise than it was, field by field, and what made it so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from cirra_sdk.cli.command import Session

# They tell that something changed, not what.
_STAMPS = frozenset({"update_time", "etag", "position"})


@dataclass(frozen=True, slots=True)
class Change:
    """`field`: a path, such as nics[0].leased_ip. None: it had no value, or was not there."""

    field: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Span:
    """What happened after `begin` and up to `end`: positions, or aware times; no `end`: until now."""

    begin: datetime | int
    end: datetime | int | None

    @property
    def is_forward(self) -> bool:
        """False when its end is known to be before its begin."""
        if isinstance(self.begin, int) and isinstance(self.end, int):
            return self.begin <= self.end
        if isinstance(self.begin, datetime) and isinstance(self.end, datetime):
            return self.begin <= self.end
        return True

    def begin_as_filter(self) -> dict[str, Any]:
        """For `Events.list`."""
        return {"since": self.begin} if isinstance(self.begin, datetime) else {"after_position": self.begin}

    def is_over(self, event: Any) -> bool:
        """Whether an event is after the end."""
        if isinstance(self.end, datetime):
            return bool(event.time.ToDatetime(UTC) > self.end)
        return self.end is not None and bool(event.position > self.end)


@dataclass(frozen=True, slots=True)
class Difference:
    """`existed`: at the begin of the span; `exists`: at its end."""

    resource: str
    span: Span
    changes: list[Change]
    events: list[Any]
    existed: bool
    exists: bool

    def record(self) -> dict[str, Any]:
        from cirra_sdk.cli.plain import plain

        return {
            "resource": self.resource,
            "from": _written(self.span.begin),
            "to": _written(self.span.end),
            "existed": self.existed,
            "exists": self.exists,
            "changes": [
                {"field": change.field, "before": change.before, "after": change.after} for change in self.changes
            ],
            "events": [plain(event) for event in self.events],
        }


def changes(before: Message | None, after: Message | None) -> list[Change]:
    """In the order of the fields; items of a list are compared one by one."""
    old, new = dict(_leaves(before)), dict(_leaves(after))
    return [
        Change(field, old.get(field), new.get(field))
        for field in {**old, **new}
        if field.rpartition(".")[2] not in _STAMPS and old.get(field) != new.get(field)
    ]


def shown(session: Session, difference: Difference) -> None:
    """Prints it: fields with both values, then the events and who caused them."""
    from cirra_sdk.cli.tables import CHANGES, EVENTS

    output = session.output
    if not output.is_table:
        output.record(difference.record())
        return
    if not difference.existed:
        output.note("it did not exist at --from: all of it is new")
    if not difference.exists:
        output.note("it does not exist any more at --to")
    if not difference.changes:
        output.note("nothing of it changed")
    output.resources(difference.changes, CHANGES)
    if difference.events:
        output.line("")
        output.resources(difference.events, EVENTS)


def _leaves(message: Message | None) -> Iterator[tuple[str, Any]]:
    """(path, value) of all that has one."""
    from cirra_sdk.cli.plain import plain

    yield from _below("", plain(message) if message is not None else {})


def _below(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _below(f"{path}.{key}" if path else str(key), inner)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _below(f"{path}[{number}]", inner)
    elif value is not None and value != "":
        yield path, value


def _written(when: datetime | int | None) -> str | int | None:
    return when.isoformat() if isinstance(when, datetime) else when
