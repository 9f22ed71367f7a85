"""Tables of facts: what is written is what the next replica reads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import cast

import asyncpg
import pytest
import pytest_asyncio

from cirra.agent.v1.desired_pb2 import PortSpec
from conductor.fabric.table import Table
from conductor.fabric.writing import write
from core.eventlog import EventLog

AWKWARD = ("", "a,b", 'say "hi"', "back\\slash", "{}", "NULL", " ö ", "two\nlines")


@dataclass(frozen=True, slots=True)
class Thing:
    name: str
    number: int
    texts: tuple[str, ...] = ()
    ready: bool = False
    data: bytes = b""
    port: PortSpec = field(default_factory=PortSpec)


@dataclass(frozen=True, slots=True)
class Pair:
    owner: str
    place: int


class Tables:
    """In memory; `read` gives what another replica would."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.things: Table[Thing] = Table("things", Thing, "name")
        self.pairs: Table[Pair] = Table("pairs", Pair, "owner", "place")
        self._connection = connection
        self.statements = 0

    async def save(self) -> None:
        await write(cast(asyncpg.Connection, self), [*self.things.unsaved(), *self.pairs.unsaved()])

    async def execute(self, statement: str, *arguments: object) -> None:
        self.statements += 1
        await self._connection.execute(statement, *arguments)

    async def read(self) -> tuple[set[str], set[Pair]]:
        other = Tables(self._connection)
        await other.things.load(self._connection)
        await other.pairs.load(self._connection)
        assert {thing.name: thing for thing in other.things} == {thing.name: thing for thing in self.things}
        assert set(other.pairs) == set(self.pairs)
        return {thing.name for thing in other.things}, set(other.pairs)


@pytest_asyncio.fixture
async def tables(log: EventLog) -> AsyncIterator[Tables]:
    async with log.pool.acquire() as pooled:
        connection = cast(asyncpg.Connection, pooled)
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("SET LOCAL search_path TO pg_temp")
        tables = Tables(connection)
        await connection.execute(tables.things.ddl + tables.pairs.ddl)
        yield tables
        await transaction.rollback()


@pytest.mark.parametrize("texts", [(), AWKWARD, *((text,) for text in AWKWARD)])
async def test_every_sort_of_field_is_kept(tables: Tables, texts: tuple[str, ...]) -> None:
    tables.things.put(Thing("one", -1, texts, True, b"\0\xff", PortSpec(mac_address="fa:16:3e:00:00:01")))
    tables.things.put(Thing("two", 2**62))
    await tables.save()
    assert await tables.read() == ({"one", "two"}, set())


async def test_what_changed_and_what_went_is_one_statement(tables: Tables) -> None:
    one, two = Thing("one", 1, ("a", "b")), Thing("two", 2)
    for thing in (one, two):
        tables.things.put(thing)
    for number in range(3):
        tables.pairs.put(Pair("left", number))
    await tables.save()

    tables.things.put(replace(one, texts=("c",)))
    tables.things.put(Thing("three", 3, ("d", "e", "f")))
    tables.things.remove("two")
    tables.pairs.remove("left", 1)
    tables.pairs.put(Pair("other", 7))
    await tables.save()
    assert tables.statements == 2
    assert await tables.read() == ({"one", "three"}, {Pair("left", 0), Pair("left", 2), Pair("other", 7)})


async def test_what_is_saved_is_not_written_again(tables: Tables) -> None:
    tables.pairs.put(Pair("left", 1))
    await tables.save()
    await tables.save()
    assert tables.statements == 1
