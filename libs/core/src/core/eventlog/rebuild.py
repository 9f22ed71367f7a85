"""The constraint rows are derived: this computes them again from the events and compares."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from core.eventlog.errors import CounterUnderflow
from core.eventlog.log import EventLog
from core.eventlog.schema import quote_identifier
from core.eventlog.types import (
    Constraint,
    Counter,
    CounterAdd,
    CounterLimit,
    RecordedEvent,
    UniqueClaim,
    UniqueRelease,
)

_PAGE = 2000
_UNTOUCHED = Counter(0, None)

Key = tuple[str, str]  # scope and key


@dataclass(frozen=True, slots=True)
class UniqueDifference:
    """A unique key whose row has `found` as the owner where the events say `right`; None: nobody."""

    scope: str
    key: str
    found: str | None
    right: str | None


@dataclass(frozen=True, slots=True)
class CounterDifference:
    """A counter whose row has `found` where the events say `right`."""

    scope: str
    key: str
    found: Counter
    right: Counter


Difference = UniqueDifference | CounterDifference


@dataclass(slots=True)
class ConstraintState:
    """Owners of unique keys, and counters, as constraint after constraint makes them."""

    owners: dict[Key, str] = field(default_factory=dict)
    counters: dict[Key, Counter] = field(default_factory=dict)

    def apply(self, constraint: Constraint) -> None:
        """What the log did with a constraint of an append that it took. Limits were checked then."""
        key = (constraint.scope, constraint.key)
        match constraint:
            case UniqueClaim(owner=owner):
                self.owners.setdefault(key, owner)
            case UniqueRelease(owner=owner):
                if self.owners.get(key) == owner:
                    del self.owners[key]
            case CounterAdd(delta=delta):
                counter = self.counters.get(key, _UNTOUCHED)
                self.counters[key] = counter._replace(used=counter.used + delta)
            case CounterLimit(limit=limit):
                self.counters[key] = self.counters.get(key, _UNTOUCHED)._replace(limit=limit)

    def differences_to(self, right: ConstraintState) -> list[Difference]:
        """Where this state, found, is not the right one; ordered by scope and key, unique keys first."""
        differences: list[Difference] = [
            UniqueDifference(*key, self.owners.get(key), right.owners.get(key))
            for key in sorted(self.owners.keys() | right.owners.keys())
            if self.owners.get(key) != right.owners.get(key)
        ]
        for key in sorted(self.counters.keys() | right.counters.keys()):
            found_counter = self.counters.get(key, _UNTOUCHED)
            right_counter = right.counters.get(key, _UNTOUCHED)
            if found_counter != right_counter:
                differences.append(CounterDifference(*key, found_counter, right_counter))
        return differences


async def recompute_constraints(
    log: EventLog,
    constraints_of: Callable[[RecordedEvent], Iterable[Constraint]],
    *,
    repair: bool = False,
) -> list[Difference]:
    """Compares the constraint rows with what all events up to now imply; with `repair` also rewrites them.

    `constraints_of` is called once with each event, in order of position. Appends may go on meanwhile; one that
    changed a row which was wrong keeps its change, so after a repair a second run tells whether all is well.
    Holds every row in memory. Raises CounterUnderflow when the events imply a counter below zero.
    """
    position, found = await _found(log)
    right = ConstraintState()
    after = 0
    while page := await log.read(after=after, limit=_PAGE, up_to=position):
        for event in page:
            for constraint in constraints_of(event):
                right.apply(constraint)
        after = page[-1].position
    for (scope, key), counter in right.counters.items():
        if counter.used < 0:
            raise CounterUnderflow(scope, key, 0, counter.used)
    differences = found.differences_to(right)
    if repair and differences:
        await _repair(log, differences)
    return differences


async def _found(log: EventLog) -> tuple[int, ConstraintState]:
    """The rows and the position that they belong to, from one snapshot."""
    schema = quote_identifier(log.schema)
    async with (
        log.pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        position: int = await connection.fetchval(f"SELECT position FROM {schema}.head")
        owners = await connection.fetch(f"SELECT scope, key, owner FROM {schema}.unique_keys")
        counters = await connection.fetch(f'SELECT scope, key, used, "limit" FROM {schema}.counters')
    return position, ConstraintState(
        {(scope, key): owner for scope, key, owner in owners},
        {(scope, key): Counter(used, limit) for scope, key, used, limit in counters},
    )


async def _repair(log: EventLog, differences: Iterable[Difference]) -> None:
    uniques: list[UniqueDifference] = []
    counters: list[CounterDifference] = []
    for difference in differences:
        if isinstance(difference, UniqueDifference):
            uniques.append(difference)
        else:
            counters.append(difference)
    await log.pool.execute(
        f"SELECT {quote_identifier(log.schema)}.repair_constraints($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        [difference.scope for difference in uniques],
        [difference.key for difference in uniques],
        [difference.found for difference in uniques],
        [difference.right for difference in uniques],
        [difference.scope for difference in counters],
        [difference.key for difference in counters],
        [difference.right.used - difference.found.used for difference in counters],
        [difference.found.limit for difference in counters],
        [difference.right.limit for difference in counters],
    )
