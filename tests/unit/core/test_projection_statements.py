"""Statements of one text are run together, and those about one subject in their order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import asyncpg
from hypothesis import given
from hypothesis import strategies as st

from core.projection import Statements


class Recorder:
    """What was run: statement and rows."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, Sequence[Sequence[Any]]]] = []

    async def executemany(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        self.ran.append((statement, rows))


async def ran(statements: Statements) -> list[tuple[str, Sequence[Sequence[Any]]]]:
    recorder = Recorder()
    await statements.run(cast("asyncpg.Connection", recorder))
    return recorder.ran


async def test_different_subjects_share_their_statements() -> None:
    statements = Statements()
    for subject in "ab":
        statements.add(subject, "INSERT", subject)
        statements.add(subject, "UPDATE", subject, 1)
        statements.add(subject, "UPDATE", subject, 2)
    assert await ran(statements) == [
        ("INSERT", [("a",), ("b",)]),
        ("UPDATE", [("a", 1), ("a", 2), ("b", 1), ("b", 2)]),
    ]
    assert await ran(statements) == []


async def test_what_comes_after_another_is_run_after_it() -> None:
    statements = Statements()
    for number, statement in enumerate(("INSERT", "DELETE", "INSERT")):
        statements.add("a", statement, number)
    assert await ran(statements) == [("INSERT", [(0,)]), ("DELETE", [(1,)]), ("INSERT", [(2,)])]


async def test_what_was_added_can_be_forgotten() -> None:
    statements = Statements()
    statements.add("a", "INSERT")
    statements.forget()
    assert await ran(statements) == []


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["INSERT", "UPDATE", "DELETE"]))))
async def test_each_subjects_statements_keep_their_order(added: list[tuple[str, str]]) -> None:
    statements = Statements()
    for number, (subject, statement) in enumerate(added):
        statements.add(subject, statement, subject, number)
    rows = [(statement, *row) for statement, rows in await ran(statements) for row in rows]
    for subject in "abc":
        wanted = [(statement, subject, number) for number, (each, statement) in enumerate(added) if each == subject]
        assert [row for row in rows if row[1] == subject] == wanted
