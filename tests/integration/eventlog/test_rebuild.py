"""The constraint rows, computed again from the events."""

from __future__ import annotations

import asyncio

import pytest

from core.eventlog import (
    Append,
    Constraint,
    Counter,
    CounterAdd,
    CounterLimit,
    CounterUnderflow,
    EventLog,
    RecordedEvent,
    UniqueClaim,
    UniqueRelease,
)
from core.eventlog.rebuild import CounterDifference, UniqueDifference, recompute_constraints
from core.ids import uuid7
from tests.integration.eventlog.events import new_append, new_event

KINDS = {"claim": UniqueClaim, "release": UniqueRelease, "add": CounterAdd, "limit": CounterLimit}


def saying(*constraints: Constraint) -> Append:
    """An append whose event says in its data which constraints it implies."""
    names = {kind: name for name, kind in KINDS.items()}
    texts = [
        " ".join((names[type(constraint)], *(str(getattr(constraint, f)) for f in constraint.__dataclass_fields__)))
        for constraint in constraints
    ]
    return Append((new_event(uuid7(), 1, data="\n".join(texts).encode()),), constraints)


def constraints_of(event: RecordedEvent) -> list[Constraint]:
    constraints: list[Constraint] = []
    for line in event.data.decode().splitlines():
        kind, scope, key, value = line.split()
        match kind:
            case "claim":
                constraints.append(UniqueClaim(scope, key, value))
            case "release":
                constraints.append(UniqueRelease(scope, key, value))
            case "add":
                constraints.append(CounterAdd(scope, key, int(value)))
            case "limit":
                constraints.append(CounterLimit(scope, key, None if value == "None" else int(value)))
    return constraints


@pytest.fixture
async def filled(log: EventLog) -> EventLog:
    await log.append(saying(UniqueClaim("name", "a", "1"), UniqueClaim("name", "b", "2")))
    await log.append(saying(UniqueRelease("name", "b", "2"), UniqueClaim("name", "c", "3")))
    await log.append(saying(CounterLimit("cores", "p", 10), CounterAdd("cores", "p", 4)))
    await log.append(saying(CounterAdd("cores", "p", -1), CounterAdd("cores", "q", 2)))
    await log.append(saying(CounterAdd("cores", "q", -2)))
    return log


async def corrupt(log: EventLog) -> None:
    schema = f'"{log.schema}"'
    await log.pool.execute(f"DELETE FROM {schema}.unique_keys WHERE key = 'a'")
    await log.pool.execute(f"UPDATE {schema}.unique_keys SET owner = 'thief' WHERE key = 'c'")
    await log.pool.execute(f"INSERT INTO {schema}.unique_keys VALUES ('name', 'z', 'ghost')")
    await log.pool.execute(f"UPDATE {schema}.counters SET used = 9, \"limit\" = 99 WHERE key = 'p'")
    await log.pool.execute(f"INSERT INTO {schema}.counters VALUES ('cores', 'r', 7)")


async def test_rows_that_the_log_wrote_are_right(filled: EventLog) -> None:
    assert await recompute_constraints(filled, constraints_of) == []


async def test_differences_are_told_and_left_alone(filled: EventLog) -> None:
    await corrupt(filled)
    expected = [
        UniqueDifference("name", "a", None, "1"),
        UniqueDifference("name", "c", "thief", "3"),
        UniqueDifference("name", "z", "ghost", None),
        CounterDifference("cores", "p", Counter(9, 99), Counter(3, 10)),
        CounterDifference("cores", "r", Counter(7, None), Counter(0, None)),
    ]
    assert await recompute_constraints(filled, constraints_of) == expected
    assert await recompute_constraints(filled, constraints_of) == expected


async def test_differences_are_repaired(filled: EventLog) -> None:
    await corrupt(filled)
    assert len(await recompute_constraints(filled, constraints_of, repair=True)) == 5
    assert await recompute_constraints(filled, constraints_of) == []
    assert await filled.unique_keys("name") == {"a": "1", "c": "3"}
    assert await filled.counter("cores", "p") == Counter(3, 10)
    assert await filled.counter("cores", "r") == Counter(0, None)


async def test_rows_that_are_all_gone_come_back(filled: EventLog) -> None:
    await filled.pool.execute(f'TRUNCATE "{filled.schema}".unique_keys, "{filled.schema}".counters')
    assert len(await recompute_constraints(filled, constraints_of, repair=True)) == 3
    assert await recompute_constraints(filled, constraints_of) == []


async def test_appends_during_a_repair_keep_what_they_did(filled: EventLog) -> None:
    await corrupt(filled)

    async def add() -> None:
        for _ in range(50):
            await filled.append(saying(CounterAdd("cores", "p", 1), UniqueClaim("name", str(uuid7()), "x")))

    await filled.append(saying(CounterLimit("cores", "p", None)))
    adding = asyncio.create_task(add())
    await recompute_constraints(filled, constraints_of, repair=True)
    await adding
    assert await recompute_constraints(filled, constraints_of) == []
    assert (await filled.counter("cores", "p")).used == 53


async def test_events_that_imply_less_than_nothing_are_told(log: EventLog) -> None:
    await log.append(new_append())
    with pytest.raises(CounterUnderflow):
        await recompute_constraints(log, lambda _event: [CounterAdd("cores", "p", -1)])
