"""Batches of all kinds, against a model in Python that appends one after the other."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.eventlog import (
    Append,
    Appended,
    Constraint,
    CounterAdd,
    CounterLimit,
    CounterUnderflow,
    EventLog,
    LimitExceeded,
    UniqueClaim,
    UniqueRelease,
    UniqueViolation,
    VersionConflict,
)
from core.ids import uuid7
from tests.integration.eventlog.events import append_together, new_event, read_all

AGGREGATES = 3
KEYS = ("a", "b")
OWNERS = ("ann", "bob")
Refusal = VersionConflict | UniqueViolation | LimitExceeded | CounterUnderflow


@dataclass(frozen=True)
class Plan:
    """An append before it is known which versions fit: for each aggregate, how many events, and how far off."""

    aggregates: dict[int, tuple[int, int]]
    constraints: tuple[Constraint, ...]
    repeat: int | None
    """Not a new append but the one that was planned so many before, again."""


constraints = st.one_of(
    st.builds(UniqueClaim, st.just("u"), st.sampled_from(KEYS), st.sampled_from(OWNERS)),
    st.builds(UniqueRelease, st.just("u"), st.sampled_from(KEYS), st.sampled_from(OWNERS)),
    st.builds(CounterAdd, st.just("c"), st.sampled_from(KEYS), st.integers(-2, 3)),
    st.builds(CounterLimit, st.just("c"), st.sampled_from(KEYS), st.none() | st.integers(0, 4)),
)
plans = st.builds(
    Plan,
    aggregates=st.dictionaries(
        st.integers(0, AGGREGATES - 1),
        st.tuples(st.integers(1, 3), st.sampled_from((0, 0, 0, 0, 0, 1, -1))),
        min_size=1,
        max_size=3,
    ),
    constraints=st.lists(constraints, max_size=4).map(tuple),
    repeat=st.none() | st.none() | st.none() | st.integers(1, 4),
)
batches = st.lists(st.lists(plans, min_size=1, max_size=10), min_size=1, max_size=4)


@dataclass
class Model:
    """The log as it must behave. `refusal` is what an append would be refused for."""

    position: int
    scope: str
    ids: list[UUID] = field(default_factory=lambda: [uuid7() for _ in range(AGGREGATES)])
    versions: dict[UUID, int] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)
    limits: dict[str, int | None] = field(default_factory=dict)
    events: list[tuple[int, UUID]] = field(default_factory=list)

    def build(self, plan: Plan) -> Append:
        events = tuple(
            new_event(self.ids[number], max(1, self.versions.get(self.ids[number], 0) + 1 + off) + more)
            for number, (count, off) in plan.aggregates.items()
            for more in range(count)
        )
        return Append(events, tuple(self._scoped(constraint) for constraint in plan.constraints))

    def append(self, append: Append) -> tuple[int, int] | Refusal:
        """First and last position, or the refusal, which leaves everything as it was."""
        before = (self.versions.copy(), self.owners.copy(), self.used.copy(), self.limits.copy())
        refusal = self._try(append)
        if refusal is not None:
            self.versions, self.owners, self.used, self.limits = before
            return refusal
        first = self.position + 1
        for event in append.events:
            self.position += 1
            self.events.append((self.position, event.event_id))
        return first, self.position

    def _scoped(self, constraint: Constraint) -> Constraint:
        rest = [getattr(constraint, name) for name in constraint.__dataclass_fields__ if name != "scope"]
        return type(constraint)(f"{self.scope}{constraint.scope}", *rest)

    def _try(self, append: Append) -> Refusal | None:
        started: set[UUID] = set()
        for event in append.events:
            current = self.versions.get(event.aggregate_id, 0)
            if event.aggregate_id not in started and event.version != current + 1:
                return VersionConflict(event.aggregate_id, event.version, current)
            started.add(event.aggregate_id)
            self.versions[event.aggregate_id] = event.version
        for constraint in append.constraints:
            if (refusal := self._try_constraint(constraint)) is not None:
                return refusal
        return None

    def _try_constraint(self, constraint: Constraint) -> Refusal | None:
        key = constraint.key
        match constraint:
            case UniqueClaim(scope, _, owner):
                if self.owners.setdefault(key, owner) != owner:
                    return UniqueViolation(scope, key, self.owners[key])
            case UniqueRelease(_, _, owner):
                if self.owners.get(key) == owner:
                    del self.owners[key]
            case CounterLimit(_, _, limit):
                self.limits[key] = limit
            case CounterAdd(scope, _, delta):
                used, limit = self.used.get(key, 0), self.limits.get(key)
                if delta > 0 and limit is not None and used + delta > limit:
                    return LimitExceeded(scope, key, used, limit, delta)
                if used + delta < 0:
                    return CounterUnderflow(scope, key, used, delta)
                self.used[key] = used + delta
        return None


def same(outcome: Appended | BaseException, expected: tuple[int, int] | Refusal) -> bool:
    if isinstance(outcome, Appended):
        return (outcome.first_position, outcome.last_position) == expected
    return type(outcome) is type(expected) and vars(outcome) == vars(expected)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=batches)
async def test_each_append_ends_as_if_it_were_alone(log: EventLog, batches: list[list[Plan]]) -> None:
    start = (await log.head()).position
    model = Model(start, scope=f"{uuid7()}/")
    known: list[tuple[Append, tuple[int, int] | Refusal]] = []
    for batch in batches:
        appends: list[Append] = []
        expected: list[tuple[int, int] | Refusal] = []
        for plan in batch:
            repeated = known[-plan.repeat] if plan.repeat and plan.repeat <= len(known) else None
            append = repeated[0] if repeated else model.build(plan)
            # What was appended is found again; what was refused is decided anew.
            found = repeated is not None and isinstance(repeated[1], tuple)
            expected.append(repeated[1] if repeated and found else model.append(append))
            known.append((append, expected[-1]))
            appends.append(append)
        outcomes = await append_together(log, appends)
        for outcome, expectation in zip(outcomes, expected, strict=True):
            assert same(outcome, expectation), (outcome, expectation)

    assert await read_all(log, after=start) == model.events
    assert [position for position, _ in model.events] == list(range(start + 1, model.position + 1))
    for aggregate_id in model.ids:
        stored = await log.read_aggregate(aggregate_id)
        assert [event.version for event in stored] == list(range(1, model.versions.get(aggregate_id, 0) + 1))
    for key in KEYS:
        assert await log.unique_owner(f"{model.scope}u", key) == model.owners.get(key)
        assert await log.counter(f"{model.scope}c", key) == (model.used.get(key, 0), model.limits.get(key))
