"""Changes of several tables as one statement: one round trip, which Postgres plans once and runs at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any

import asyncpg

_PLACEHOLDER = re.compile(r"\$(\d+)")


@dataclass(frozen=True, slots=True)
class Change:
    """A statement that changes rows of a table, and an argument for each of its `$1`, `$2`, …"""

    statement: str
    arguments: Sequence[Any]


async def write(connection: asyncpg.Connection, changes: Iterable[Change]) -> None:
    """Makes all of them, in any order: no two may be about the same row."""
    changes = tuple(changes)
    if changes:
        statement = _together(tuple(change.statement for change in changes))
        await connection.execute(statement, *chain.from_iterable(change.arguments for change in changes))


@cache
def _together(statements: tuple[str, ...]) -> str:
    """Data-modifying queries of one WITH (Postgres manual, section 7.8.4), their placeholders numbered on."""
    parts, used = [], 0
    for statement in statements:
        parts.append(_numbered_on(statement, used))
        used += len(set(_PLACEHOLDER.findall(statement)))
    *others, last = parts
    named = ", ".join(f"change_{number} AS ({part})" for number, part in enumerate(others))
    return f"WITH {named} {last}" if others else last


def _numbered_on(statement: str, used: int) -> str:
    return _PLACEHOLDER.sub(lambda found: f"${int(found[1]) + used}", statement)
