"""A batch of appends as the rows that `append_batch` takes, and its answer as one outcome per append. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from core.eventlog.errors import (
    CounterUnderflow,
    InvalidAppend,
    LimitExceeded,
    UniqueViolation,
    VersionConflict,
)
from core.eventlog.types import (
    MAX_APPEND_BYTES,
    MAX_EVENT_BYTES,
    Append,
    Appended,
    Constraint,
    CounterAdd,
    CounterLimit,
    NewEvent,
    UniqueClaim,
    UniqueRelease,
)

Outcome = Appended | VersionConflict | UniqueViolation | LimitExceeded | CounterUnderflow
Row = tuple[Any, ...]
Key = tuple[str, str]  # scope and key

_MAX_NUMBER = 2**53  # far from where a sum of them leaves bigint
_MAX_KEY_LENGTH = 512  # in UTF-8 at most 2 KiB: a row of an index must fit in a third of a page


@dataclass(frozen=True, slots=True)
class CheckedAppend:
    """An append that Postgres can take: `ranges` has each aggregate's first and last version, in order."""

    append: Append
    ranges: dict[UUID, tuple[int, int]]
    size_bytes: int


class Batch:
    """Appends in their order, as the composite types of `log_0002_append.sql`, which name the fields."""

    def __init__(self, appends: Sequence[CheckedAppend]) -> None:
        self._appends = appends
        self._rows: list[Row] = []
        self._events: list[Row] = []
        self._steps: list[Row] = []
        self._aggregates: dict[UUID, int] = {}
        self._uniques: dict[Key, int] = {}
        self._counters: dict[Key, int] = {}
        for number, checked in enumerate(appends, 1):
            self._add(number, checked)

    def arguments(self) -> tuple[list[Row], list[Row], list[Row], list[UUID], list[Key], list[Key], bool]:
        """The parameters of the call."""
        return (
            self._rows,
            self._events,
            self._steps,
            list(self._aggregates),
            list(self._uniques),
            list(self._counters),
            all(checked.append.patient for checked in self._appends),
        )

    def outcomes(self, answer: Sequence[Any]) -> list[Outcome]:
        """What became of each append, from the row that the call returned."""
        appended_at, first_positions, exceptions = answer
        repeated: dict[int, datetime] = {}
        refused: dict[int, Outcome] = {}
        for number, repeated_at, violation, *found in exceptions or ():
            if violation is None:
                repeated[number] = repeated_at
            else:
                refused[number] = _violation(self._appends[number - 1], *found)
        return [
            refused[number]
            if number in refused
            else Appended(first, first + len(checked.append.events) - 1, repeated.get(number, appended_at))
            for number, (checked, first) in enumerate(zip(self._appends, first_positions, strict=True), 1)
        ]

    def _add(self, number: int, checked: CheckedAppend) -> None:
        append = checked.append
        for place, event in enumerate(append.events):
            self._events.append(
                (
                    number,
                    place,
                    event.event_id,
                    event.aggregate_type,
                    event.aggregate_id,
                    event.version,
                    event.type,
                    event.schema_version,
                    event.data,
                )
            )
        for aggregate_id, (first, last) in checked.ranges.items():
            target = self._aggregates.setdefault(aggregate_id, len(self._aggregates) + 1)
            self._steps.append((b"v", target, first, last, None))
        for constraint in append.constraints:
            self._steps.append(self._step(constraint))
        context = append.context
        self._rows.append(
            (
                context.actor,
                context.request_id,
                context.causation_id,
                context.correlation_id,
                context.traceparent,
                len(self._steps),
                len(self._events),
            )
        )

    def _step(self, constraint: Constraint) -> Row:
        key = (constraint.scope, constraint.key)
        match constraint:
            case UniqueClaim(owner=owner):
                return b"c", _index(self._uniques, key), None, None, owner
            case UniqueRelease(owner=owner):
                return b"r", _index(self._uniques, key), None, None, owner
            case CounterAdd(delta=delta):
                return b"a", _index(self._counters, key), delta, None, None
            case CounterLimit(limit=limit):
                return b"l", _index(self._counters, key), limit, None, None


def check(append: Append) -> CheckedAppend:
    """Raises InvalidAppend for what Postgres could never take, so that it can't spoil the batch of others."""
    if not append.events:
        raise InvalidAppend("an append needs an event: constraint rows derive from events")
    context = append.context
    texts = [
        context.actor,
        context.request_id,
        context.causation_id,
        context.correlation_id,
        context.traceparent,
    ]
    ranges: dict[UUID, tuple[int, int]] = {}
    size_bytes = 0
    for event in append.events:
        _check_event(event)
        texts += (event.aggregate_type, event.type)
        first, last = ranges.get(event.aggregate_id, (event.version, event.version - 1))
        if event.version != last + 1:
            raise InvalidAppend(f"aggregate {event.aggregate_id}: version {event.version} follows {last}")
        ranges[event.aggregate_id] = (first, event.version)
        size_bytes += len(event.data)
    if size_bytes > MAX_APPEND_BYTES:
        raise InvalidAppend(f"an append of {size_bytes} bytes of data; the most is {MAX_APPEND_BYTES}")
    for constraint in append.constraints:
        texts += _checked_texts(constraint)
    joined = "".join(texts)
    if "\0" in joined or not _encodes(joined):
        raise InvalidAppend(f"Postgres can't store one of these texts: {texts!r}")
    return CheckedAppend(append, ranges, size_bytes)


def _check_event(event: NewEvent) -> None:
    if len(event.data) > MAX_EVENT_BYTES:
        raise InvalidAppend(
            f"{event.type} of aggregate {event.aggregate_id} has {len(event.data)} bytes of data;"
            f" the most is {MAX_EVENT_BYTES}"
        )
    if not (1 <= event.version <= _MAX_NUMBER and 1 <= event.schema_version < 2**31):
        raise InvalidAppend(f"{event.type} of aggregate {event.aggregate_id}: a version is out of range")


def _checked_texts(constraint: Constraint) -> tuple[str, ...]:
    """The texts of a constraint whose numbers are in range."""
    scope, key = constraint.scope, constraint.key
    if len(scope) + len(key) > _MAX_KEY_LENGTH:
        raise InvalidAppend(f"scope and key are longer than {_MAX_KEY_LENGTH} characters: {scope!r}")
    if isinstance(constraint, UniqueClaim | UniqueRelease):
        return scope, key, constraint.owner
    if isinstance(constraint, CounterAdd):
        if abs(constraint.delta) > _MAX_NUMBER:
            raise InvalidAppend(f"delta out of range: {constraint.delta}")
    elif constraint.limit is not None and not 0 <= constraint.limit <= _MAX_NUMBER:
        raise InvalidAppend(f"limit out of range: {constraint.limit}")
    return scope, key


def _encodes(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True


def _index(targets: dict[Key, int], key: Key) -> int:
    return targets.setdefault(key, len(targets) + 1)


def _violation(checked: CheckedAppend, culprit: int, number: int, limit: int, owner: str) -> Outcome:
    """The error for the step with number `culprit`: aggregates come first, then the constraints."""
    if culprit < len(checked.ranges):
        aggregate_id, (first, _) = list(checked.ranges.items())[culprit]
        return VersionConflict(aggregate_id, first, number)
    constraint = checked.append.constraints[culprit - len(checked.ranges)]
    match constraint:
        case UniqueClaim(scope, key, _):
            return UniqueViolation(scope, key, owner)
        case CounterAdd(scope, key, delta) if delta > 0:
            return LimitExceeded(scope, key, number, limit, delta)
        case CounterAdd(scope, key, delta):
            return CounterUnderflow(scope, key, number, delta)
        case CounterLimit() | UniqueRelease():
            raise AssertionError(f"{constraint} can't be violated")
