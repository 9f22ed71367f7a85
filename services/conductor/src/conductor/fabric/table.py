"""A table of facts: whole in memory while the projection is active here, and in Postgres for the next one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import fields
from functools import cached_property
from typing import Any, Generic, TypeVar, get_type_hints

import asyncpg
from google.protobuf.message import Message

from conductor.fabric.writing import Change

_TO_ESCAPE = re.compile(r'["\\]')

R = TypeVar("R")
Key = tuple[Any, ...]

_TYPES = {str: 'text COLLATE "C"', int: "bigint", bool: "boolean", tuple[str, ...]: "text[]", bytes: "bytea"}
# In an array of a column's values; arrays of arrays can't be of several lengths, so that each comes as its text.
_ARRAYS = {str: "text", int: "bigint", bool: "boolean", tuple[str, ...]: "text", bytes: "bytea"}


class Table(Generic[R]):
    """Rows of a frozen dataclass, by its fields `key`; in Postgres a table with a column per field.

    Fields are str, int, bool, bytes, tuple[str, ...] or a protobuf message, which nobody changes. `changes` is the
    journal of one event: key → the row before it and after it, None for none.
    """

    def __init__(self, name: str, row: Callable[..., R], *key: str) -> None:
        self.name = name
        self._row = row
        self._key = key
        hints = get_type_hints(row)
        self._columns = {field.name: hints[field.name] for field in fields(row)}  # type: ignore[arg-type]
        self._rows: dict[Key, R] = {}
        self._indices: list[Index[R] | Values[R]] = []
        self._unsaved: set[Key] = set()
        self.changes: dict[Key, tuple[R | None, R | None]] = {}

    def index(self, *columns: str) -> Index[R]:
        """A way to find rows by other fields than the key. Made before there are rows."""
        made: Index[R] = Index(columns)
        self._indices.append(made)
        return made

    def values_of(self, column: str, *columns: str) -> Values[R]:
        """A way to find what rows have in one field, by others of their fields. Made before there are rows."""
        made: Values[R] = Values(column, columns)
        self._indices.append(made)
        return made

    def __iter__(self) -> Iterator[R]:
        return iter(self._rows.values())

    def get(self, *key: Any) -> R | None:
        return self._rows.get(key)

    def put(self, row: R) -> None:
        """It is so now, whatever was there with this key."""
        self._set(_values(row, self._key), row)

    def remove(self, *key: Any) -> None:
        """Without effect when there is no such row."""
        self._set(key, None)

    def changed(self) -> Iterator[tuple[R | None, R | None]]:
        """What the event has changed: rows before and after it."""
        return ((before, after) for before, after in self.changes.values() if before != after)

    def _set(self, key: Key, row: R | None) -> None:
        before = self._rows.get(key)
        if before == row:
            return
        self.changes[key] = (self.changes[key][0] if key in self.changes else before, row)
        self._unsaved.add(key)
        for index in self._indices:
            index.replace(key, before, row)
        if row is None:
            del self._rows[key]
        else:
            self._rows[key] = row

    # --- in Postgres

    @property
    def ddl(self) -> str:
        columns = ", ".join(f"{name} {_sql_type(hint)} NOT NULL" for name, hint in self._columns.items())
        return f"CREATE TABLE {self.name} ({columns}, PRIMARY KEY ({', '.join(self._key)}));"

    async def load(self, connection: asyncpg.Connection) -> None:
        """Forgets all, and reads what is stored."""
        self._rows, self._unsaved, self.changes = {}, set(), {}
        for index in self._indices:
            index.clear()
        for stored in await connection.fetch(f"SELECT {', '.join(self._columns)} FROM {self.name}"):
            row = self._row(*map(_from_sql, self._columns.values(), stored.values()))
            key = _values(row, self._key)
            self._rows[key] = row
            for index in self._indices:
                index.replace(key, None, row)

    def unsaved(self) -> Iterator[Change]:
        """Statements that write what was changed since they were last asked for."""
        unsaved, self._unsaved = self._unsaved, set()
        present = [self._arguments(row) for key in unsaved if (row := self._rows.get(key)) is not None]
        if present:
            yield Change(self._upsert, _columns(present))
        gone = [key for key in unsaved if key not in self._rows]
        if gone:
            yield Change(self._delete, _columns(gone))

    @cached_property
    def _upsert(self) -> str:
        names = ", ".join(self._columns)
        values = ", ".join(_from_text(name, hint) for name, hint in self._columns.items())
        others = ", ".join(f"{name} = excluded.{name}" for name in self._columns if name not in self._key)
        then = f"UPDATE SET {others}" if others else "NOTHING"
        return (
            f"INSERT INTO {self.name} ({names}) SELECT {values} FROM {self._arrays(self._columns)} AS given ({names})"
            f" ON CONFLICT ({', '.join(self._key)}) DO {then}"
        )

    @cached_property
    def _delete(self) -> str:
        where = " AND ".join(f"{self.name}.{name} = gone.{name}" for name in self._key)
        arrays = self._arrays(self._key)
        return f"DELETE FROM {self.name} USING {arrays} AS gone ({', '.join(self._key)}) WHERE {where}"

    def _arrays(self, columns: Iterable[str]) -> str:
        types = (_ARRAYS.get(self._columns[name], "bytea") for name in columns)
        return f"unnest({', '.join(f'${number}::{each}[]' for number, each in enumerate(types, 1))})"

    def _arguments(self, row: R) -> tuple[Any, ...]:
        return tuple(map(_to_sql, _values(row, self._columns)))


class Index(Generic[R]):
    """Rows of a table by some of its fields."""

    def __init__(self, columns: tuple[str, ...]) -> None:
        self._columns = columns
        self._found: dict[Key, dict[Key, R]] = {}

    def get(self, *values: Any) -> Collection[R]:
        """The rows whose fields have these values; don't change the table while going through them."""
        return self._found.get(values, {}).values()

    def clear(self) -> None:
        self._found.clear()

    def replace(self, key: Key, before: R | None, after: R | None) -> None:
        """The table's row with this key was another."""
        if before is not None:
            values = _values(before, self._columns)
            rows = self._found[values]
            del rows[key]
            if not rows:
                del self._found[values]
        if after is not None:
            self._found.setdefault(_values(after, self._columns), {})[key] = after

    def came_or_went(self, table: Table[R]) -> Iterator[Key]:
        """The values of which the event has made the first row of its table, or unmade the last."""
        net: Counter[Key] = Counter()
        for before, after in table.changed():
            if before is not None:
                net[_values(before, self._columns)] -= 1
            if after is not None:
                net[_values(after, self._columns)] += 1
        for values, gained in net.items():
            now = len(self.get(*values))
            if (now > 0) != (now - gained > 0):
                yield values


class Values(Generic[R]):
    """What rows have in one field, by others of their fields: counted, so that asking goes through no rows."""

    def __init__(self, column: str, columns: tuple[str, ...]) -> None:
        self._column = column
        self._columns = columns
        self._found: dict[Key, Counter[Any]] = {}

    def get(self, *values: Any) -> Collection[Any]:
        """Each once; don't change the table while going through them."""
        return self._found.get(values, {}).keys()

    def clear(self) -> None:
        self._found.clear()

    def replace(self, key: Key, before: R | None, after: R | None) -> None:
        """The table's row with this key was another."""
        if after is not None:
            self._found.setdefault(_values(after, self._columns), Counter())[getattr(after, self._column)] += 1
        if before is not None:
            values = _values(before, self._columns)
            counted, value = self._found[values], getattr(before, self._column)
            counted[value] -= 1
            if not counted[value]:
                del counted[value]
            if not counted:
                del self._found[values]


def _values(row: Any, names: Iterable[str]) -> Key:
    return tuple(getattr(row, name) for name in names)


def _sql_type(hint: Any) -> str:
    return "bytea" if _is_message(hint) else _TYPES[hint]


def _columns(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _to_sql(value: Any) -> Any:
    if isinstance(value, Message):
        return value.SerializeToString(deterministic=True)
    return _array_literal(value) if isinstance(value, tuple) else value


def _from_text(name: str, hint: Any) -> str:
    return f"{name}::text[]" if hint == tuple[str, ...] else name


def _array_literal(texts: Iterable[str]) -> str:
    """As Postgres reads an array (manual, section 8.15.2)."""
    return "{" + ",".join('"' + _TO_ESCAPE.sub(r"\\\g<0>", text) + '"' for text in texts) + "}"


def _from_sql(hint: Any, stored: Any) -> Any:
    if _is_message(hint):
        return hint.FromString(stored)
    return tuple(stored) if isinstance(stored, list) else stored


def _is_message(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Message)
