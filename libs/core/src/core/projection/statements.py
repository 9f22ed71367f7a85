"""Changes of rows that a projection makes at the end of its transaction: those with one text in one go."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import asyncpg


class Statements:
    """What `apply` adds, `flush` runs, and who reads rows in between runs before.

    A subject's statements run in their order, with those of others in between: no statement about one subject may
    touch, or look at, another's rows.
    """

    def __init__(self) -> None:
        self._stages: list[tuple[str, list[Sequence[Any]]]] = []
        # The stage of each subject's last statement.
        self._reached: dict[Hashable, int] = {}

    def add(self, subject: Hashable, statement: str, *arguments: Any) -> None:
        """To be run with these arguments, after all that was added about the subject before."""
        stage = self._reached.get(subject, 0)
        while stage < len(self._stages) and self._stages[stage][0] != statement:
            stage += 1
        if stage == len(self._stages):
            self._stages.append((statement, []))
        self._stages[stage][1].append(arguments)
        self._reached[subject] = stage

    async def run(self, connection: asyncpg.Connection) -> None:
        """Runs all that was added."""
        stages = self._stages
        self.forget()
        for statement, rows in stages:
            await connection.executemany(statement, rows)

    def forget(self) -> None:
        """Nothing was added."""
        self._stages, self._reached = [], {}
