"""A batch of appends as the arrays that `append_batch` takes, and its answer as one outcome per append. Pure."""

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
    Context,
    CounterAdd,
    CounterLimit,
    NewEvent,
    UniqueClaim,
    UniqueRelease,
)

Outcome = Appended | VersionConflict | UniqueViolation | LimitExceeded | CounterUnderflow

PARAMETERS = 26
RESULTS = 8

_MAX_NUMBER = 2**53  # far from where a sum of them leaves bigint
_MAX_KEY_LENGTH = 512  # in UTF-8 at most 2 KiB: a row of an index must fit in a third of a page


@dataclass(frozen=True, slots=True)
class CheckedAppend:
    """An append that Postgres can take: `ranges` has each aggregate's first and last version, in order."""

    append: Append
    ranges: dict[UUID, tuple[int, int]]
    size_bytes: int


class Batch:
    """Appends in their order, column by column; the names are those of `append_batch` in `log_0002_append.sql`."""

    def __init__(self, appends: Sequence[CheckedAppend]) -> None:
        self._appends = appends
        self._contexts: tuple[list[str], ...] = ([], [], [], [], [])
        self._last_steps: list[int] = []
        self._last_events: list[int] = []
        self._events: tuple[list[Any], ...] = ([], [], [], [], [], [], [], [], [])
        self._steps: tuple[list[Any], ...] = ([], [], [], [], [])
        self._aggregates: dict[UUID, int] = {}
        self._uniques: dict[tuple[str, str], int] = {}
        self._counters: dict[tuple[str, str], int] = {}
        for number, checked in enumerate(appends, 1):
            self._add_context(checked.append.context)
            self._add_events(number, checked.append.events)
            for aggregate_id, (first, last) in checked.ranges.items():
                target = self._aggregates.setdefault(aggregate_id, len(self._aggregates) + 1)
                self._add_step(b"v", target, first, last, None)
            for constraint in checked.append.constraints:
                self._add_constraint(constraint)
            self._last_steps.append(len(self._steps[0]))
            self._last_events.append(len(self._events[0]))

    def arguments(self) -> tuple[list[Any], ...]:
        """The parameters of the call, PARAMETERS in number."""
        return (
            *self._contexts,
            self._last_steps,
            self._last_events,
            *self._events,
            *self._steps,
            list(self._aggregates),
            [scope for scope, _ in self._uniques],
            [key for _, key in self._uniques],
            [scope for scope, _ in self._counters],
            [key for _, key in self._counters],
        )

    def outcomes(self, answer: Sequence[Any]) -> list[Outcome]:
        """What became of each append, from the row that the call returned."""
        appended_at, firsts, repeats, violations, culprits, numbers, limits, owners = answer
        if violations is None:
            return [
                _appended(checked.append, first, appended_at)
                for checked, first in zip(self._appends, firsts, strict=True)
            ]
        return [
            _appended(checked.append, first, repeated or appended_at)
            if violation is None
            else _violation(checked, culprit, number, limit, owner)
            for checked, first, repeated, violation, culprit, number, limit, owner in zip(
                self._appends, firsts, repeats, violations, culprits, numbers, limits, owners, strict=True
            )
        ]

    def _add_context(self, context: Context) -> None:
        actors, request_ids, causation_ids, correlation_ids, traceparents = self._contexts
        actors.append(context.actor)
        request_ids.append(context.request_id)
        causation_ids.append(context.causation_id)
        correlation_ids.append(context.correlation_id)
        traceparents.append(context.traceparent)

    def _add_events(self, append: int, events: tuple[NewEvent, ...]) -> None:
        appends, places, ids, kinds, aggregates, versions, types, schema_versions, payloads = self._events
        for place, event in enumerate(events):
            appends.append(append)
            places.append(place)
            ids.append(event.event_id)
            kinds.append(event.aggregate_type)
            aggregates.append(event.aggregate_id)
            versions.append(event.version)
            types.append(event.type)
            schema_versions.append(event.schema_version)
            payloads.append(event.data)

    def _add_constraint(self, constraint: Constraint) -> None:
        key = (constraint.scope, constraint.key)
        match constraint:
            case UniqueClaim(owner=owner):
                self._add_step(b"c", _index(self._uniques, key), None, None, owner)
            case UniqueRelease(owner=owner):
                self._add_step(b"r", _index(self._uniques, key), None, None, owner)
            case CounterAdd(delta=delta):
                self._add_step(b"a", _index(self._counters, key), delta, None, None)
            case CounterLimit(limit=limit):
                self._add_step(b"l", _index(self._counters, key), limit, None, None)

    def _add_step(self, kind: bytes, target: int, start: int | None, end: int | None, owner: str | None) -> None:
        kinds, targets, from_numbers, to_numbers, owners = self._steps
        kinds.append(kind)
        targets.append(target)
        from_numbers.append(start)
        to_numbers.append(end)
        owners.append(owner)


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


def _index(targets: dict[tuple[str, str], int], key: tuple[str, str]) -> int:
    return targets.setdefault(key, len(targets) + 1)


def _appended(append: Append, first_position: int, recorded_at: datetime) -> Appended:
    return Appended(first_position, first_position + len(append.events) - 1, recorded_at)


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
