"""A batch as rows, what is refused before it is sent, and constraint rows folded from events. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from core.eventlog import (
    Append,
    Appended,
    Constraint,
    Context,
    Counter,
    CounterAdd,
    CounterLimit,
    CounterUnderflow,
    InvalidAppend,
    LimitExceeded,
    NewEvent,
    UniqueClaim,
    UniqueRelease,
    UniqueViolation,
    VersionConflict,
)
from core.eventlog.batch import Batch, check
from core.eventlog.rebuild import ConstraintState, CounterDifference, UniqueDifference
from core.eventlog.schema import bind_schema, check_schema_name, packaged
from core.eventlog.types import MAX_EVENT_BYTES

A, B = UUID(int=1), UUID(int=2)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def event(aggregate_id: UUID, version: int, data: bytes = b"") -> NewEvent:
    event_id = UUID(int=aggregate_id.int * 1000 + version)
    return NewEvent(
        aggregate_type="t", aggregate_id=aggregate_id, version=version, type="T", data=data, event_id=event_id
    )


def batch(*appends: Append) -> Batch:
    return Batch([check(append) for append in appends])


def test_appends_become_steps_on_shared_targets() -> None:
    appends, events, steps, aggregates, unique_keys, counters, patient = batch(
        Append((event(A, 1), event(B, 4), event(A, 2)), (UniqueClaim("u", "k", "x"), CounterAdd("c", "k", 3))),
        Append((event(A, 3),), (UniqueRelease("u", "k", "y"), CounterLimit("c", "k", None))),
    ).arguments()
    assert [row[-2:] for row in appends] == [(4, 3), (7, 4)]
    assert [(row[0], row[1], row[4], row[5]) for row in events] == [
        (1, 0, A, 1),
        (1, 1, B, 4),
        (1, 2, A, 2),
        (2, 0, A, 3),
    ]
    assert steps == [
        (b"v", 1, 1, 2, None),
        (b"v", 2, 4, 4, None),
        (b"c", 1, None, None, "x"),
        (b"a", 1, 3, None, None),
        (b"v", 1, 3, 3, None),
        (b"r", 1, None, None, "y"),
        (b"l", 1, None, None, None),
    ]
    assert (aggregates, unique_keys, counters) == ([A, B], [("u", "k")], [("c", "k")])
    assert not patient


@pytest.mark.parametrize(("patience", "patient"), [((True, True), True), ((True, False), False)])
def test_a_batch_is_as_urgent_as_its_most_urgent_append(patience: tuple[bool, bool], patient: bool) -> None:
    first, second = patience
    made = batch(Append((event(A, 1),), patient=first), Append((event(B, 1),), patient=second))
    assert made.arguments()[-1] is patient


def test_an_answer_without_exceptions() -> None:
    outcomes = batch(Append((event(A, 1), event(A, 2))), Append((event(B, 1),))).outcomes((NOW, [7, 9], None))
    assert outcomes == [Appended(7, 8, NOW), Appended(9, 9, NOW)]


def test_an_answer_with_one_of_each() -> None:
    earlier = datetime(2025, 1, 1, tzinfo=UTC)
    appends = [
        Append((event(A, 1), event(A, 2))),
        Append((event(A, 1), event(B, 5))),
        Append((event(A, 3),), (UniqueClaim("u", "k", "x"),)),
        Append((event(A, 4),), (UniqueRelease("u", "k", "x"), CounterAdd("c", "k", 3))),
        Append((event(A, 5),), (CounterAdd("c", "k", -3),)),
        Append((event(A, 6),)),
    ]
    exceptions = [
        (1, earlier, None, None, None, None, None),
        (2, None, b"v", 1, 8, None, None),
        (3, None, b"c", 1, None, None, "y"),
        (4, None, b"a", 2, 9, 10, None),
        (5, None, b"u", 1, 2, None, None),
    ]
    repeated, conflict, unique, limit, underflow, fits = batch(*appends).outcomes(
        (NOW, [1, None, None, None, None, 3], exceptions)
    )
    assert repeated == Appended(1, 2, earlier)
    assert isinstance(conflict, VersionConflict)
    assert (conflict.aggregate_id, conflict.version, conflict.current) == (B, 5, 8)
    assert isinstance(unique, UniqueViolation) and unique.owner == "y"
    assert isinstance(limit, LimitExceeded) and (limit.used, limit.limit, limit.delta) == (9, 10, 3)
    assert isinstance(underflow, CounterUnderflow) and (underflow.used, underflow.delta) == (2, -3)
    assert fits == Appended(3, 3, NOW)


@pytest.mark.parametrize(
    ("append", "message"),
    [
        (Append(()), "needs an event"),
        (Append((), (CounterLimit("c", "k", 1),)), "needs an event"),
        (Append((event(A, 1), event(A, 3))), "version 3 follows 1"),
        (Append((event(A, 2), event(A, 1))), "version 1 follows 2"),
        (Append((event(A, 0),)), "out of range"),
        (Append((event(A, 1, bytes(MAX_EVENT_BYTES + 1)),)), "1048577 bytes"),
        (Append(tuple(event(A, v, bytes(MAX_EVENT_BYTES)) for v in range(1, 18))), "17825792 bytes"),
        (Append((event(A, 1),), (CounterAdd("c", "k", 2**60),)), "delta out of range"),
        (Append((event(A, 1),), (CounterLimit("c", "k", -1),)), "limit out of range"),
        (Append((event(A, 1),), (UniqueClaim("u", "\0", "x"),)), "can't store"),
        (Append((event(A, 1),), context=Context(request_id="\ud800")), "can't store"),
    ],
)
def test_what_can_never_be_written(append: Append, message: str) -> None:
    with pytest.raises(InvalidAppend, match=message):
        check(append)


def folded(*constraints: Constraint) -> ConstraintState:
    state = ConstraintState()
    for constraint in constraints:
        state.apply(constraint)
    return state


def test_constraints_fold_to_owners_and_counters() -> None:
    state = folded(
        UniqueClaim("u", "a", "x"),
        UniqueClaim("u", "b", "y"),
        UniqueRelease("u", "a", "y"),
        UniqueRelease("u", "b", "y"),
        CounterAdd("c", "k", 5),
        CounterLimit("c", "k", 3),
        CounterAdd("c", "k", -1),
    )
    assert state.owners == {("u", "a"): "x"}
    assert state.counters == {("c", "k"): Counter(4, 3)}


def test_the_first_claim_stands() -> None:
    assert folded(UniqueClaim("u", "a", "x"), UniqueClaim("u", "a", "y")).owners == {("u", "a"): "x"}


def test_differences_name_both_sides_and_an_unused_counter_is_none() -> None:
    found = folded(UniqueClaim("u", "a", "x"), CounterAdd("c", "k", 1), CounterAdd("c", "unused", 0))
    right = folded(UniqueClaim("u", "b", "y"), CounterLimit("c", "k", 2))
    assert found.differences_to(right) == [
        UniqueDifference("u", "a", "x", None),
        UniqueDifference("u", "b", None, "y"),
        CounterDifference("c", "k", Counter(1, None), Counter(0, 2)),
    ]
    assert found.differences_to(found) == []


def test_the_schema_is_quoted_wherever_it_stands() -> None:
    sql = """CREATE TABLE :"schema".t; SELECT :'schema' || 'x'; SELECT a::text, 'b':: "char" """
    assert bind_schema(sql, """we"ird's""") == (
        """CREATE TABLE "we""ird's".t; SELECT 'we"ird''s' || 'x'; SELECT a::text, 'b':: "char" """
    )
    for bad in ("", "a\0b", "x" * 49):
        with pytest.raises(ValueError, match="schema name"):
            check_schema_name(bad)


def test_migrations_are_in_the_package() -> None:
    [migration] = packaged("log_0001")
    assert 'CREATE TABLE :"schema".events' in migration.sql
    assert len(migration.checksum) == 64
