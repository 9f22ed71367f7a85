"""What a cloud holds, row by row: by comparing before and after, a test sees what a refused request has left over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import asyncpg

from core.repository import REQUESTS
from core.testing.servers import Cell
from placement.liveness.term import SCOPE
from tests.harness.cloud import Cloud

# Who works, and how far: no state of the cloud. The head counts the events, which are looked at themselves.
_VOLATILE = frozenset({"leases", "projections", "migrations", "roll", "head"})
# On a busy machine a detector may lose its lease: the term of the next one is nobody's trace either.
_NOT_WHO_DETECTS = {"events": f"WHERE aggregate_type <> '{SCOPE}'", "unique_keys": f"WHERE scope <> '{SCOPE}'"}
_TABLES = """
    SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND starts_with(n.nspname, $1) ORDER BY 1, 2
"""
# But those of default groups: each comes with its project's first port, and stays as long as the project.
_CONSTRAINTS = """
    SELECT scope || ' ' || key AS name, used::text AS value FROM {schema}.counters WHERE used <> 0
    UNION ALL SELECT scope || ' ' || key, owner FROM {schema}.unique_keys WHERE scope NOT IN ('{requests}', '{term}')
    AND owner NOT IN (SELECT owner FROM {schema}.unique_keys WHERE scope = 'default-security-group')
"""
# Behind the log: the projections that have not applied its last event.
_BEHIND = "SELECT count(*) FROM {schema}.projections WHERE position < (SELECT position FROM {log}.head)"
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Holdings:
    """`rows`: "schema.table" → its rows as texts. `constraints`: quotas, addresses, capacity, names in use.

    `blobs`: the files of images. `guests`: host → the objects on it.
    """

    rows: Mapping[str, frozenset[str]]
    constraints: Mapping[str, str]
    blobs: frozenset[str]
    guests: Mapping[str, frozenset[str]]

    def differences(self, later: Holdings) -> list[str]:
        """What has come and what has gone, one line each."""
        lines: list[str] = []
        for name in sorted(self.rows.keys() | later.rows.keys()):
            lines += _changes(name, self.rows.get(name, frozenset()), later.rows.get(name, frozenset()))
        lines += self.lasting_differences(later)
        return lines

    def lasting_differences(self, later: Holdings) -> list[str]:
        """Of what must be given back also by what has happened and was undone, which the log tells for ever."""
        held = [frozenset(f"{name}={value}" for name, value in it.constraints.items()) for it in (self, later)]
        lines = [*_changes("constraint", *held), *_changes("blob", self.blobs, later.blobs)]
        for host in self.guests:
            lines += _changes(host, self.guests[host], later.guests[host])
        return lines


def _changes(name: str, before: frozenset[str], after: frozenset[str]) -> Iterator[str]:
    for sign, rows in (("-", before - after), ("+", after - before)):
        yield from (f"{sign} {name}: {row[:300]}" for row in sorted(rows))


async def holdings(cloud: Cloud) -> Holdings:
    """All that there is now, once the read models have what is in the log."""
    connection = await asyncpg.connect(cloud.cell.dsn)
    try:
        async with asyncio.timeout(PATIENCE_S):
            while await _behind(connection, cloud.cell):  # noqa: ASYNC110 - a database wakes nobody
                await asyncio.sleep(0.01)
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            rows = {
                name: frozenset(texts)
                for name, texts in (await _all_rows(connection, cloud.cell, _VOLATILE, _NOT_WHO_DETECTS)).items()
            }
            query = _CONSTRAINTS.format(schema=f'"{cloud.cell.name}_log"', requests=REQUESTS, term=SCOPE)
            constraints = {record["name"]: record["value"] for record in await connection.fetch(query)}
    finally:
        await connection.close()
    blobs = await asyncio.to_thread(_files, cloud.blob_folder)
    guests = {host.name: frozenset([*host.domains, *host.ports]) for host in cloud.hosts}
    return Holdings(rows, constraints, blobs, guests)


async def every_row(cell: Cell) -> Mapping[str, list[str]]:
    """ "schema.table" → every row as Postgres prints it; octets are hexadecimal."""
    connection = await asyncpg.connect(cell.dsn)
    try:
        return await _all_rows(connection, cell, frozenset())
    finally:
        await connection.close()


async def _behind(connection: asyncpg.Connection, cell: Cell) -> bool:
    tables = await connection.fetch(_TABLES, f"{cell.name}_")
    schemas = [table["schema"] for table in tables if table["name"] == "projections"]
    queries = [_BEHIND.format(schema=f'"{schema}"', log=f'"{cell.name}_log"') for schema in schemas]
    return any([await connection.fetchval(query) for query in queries])


async def _all_rows(
    connection: asyncpg.Connection, cell: Cell, without: frozenset[str], which: Mapping[str, str] = MappingProxyType({})
) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for table in await connection.fetch(_TABLES, f"{cell.name}_"):
        if table["name"] not in without:
            query = f'SELECT t::text AS row FROM "{table["schema"]}"."{table["name"]}" t {which.get(table["name"], "")}'
            found[f"{table['schema']}.{table['name']}"] = [record["row"] for record in await connection.fetch(query)]
    return found


def _files(folder: Path) -> frozenset[str]:
    return frozenset(
        str(path.relative_to(folder)) for part in ("blobs", "uploads") for path in (folder / part).iterdir()
    )


@asynccontextmanager
async def nothing_left(cloud: Cloud) -> AsyncIterator[None]:
    """Fails if the block leaves any trace: an event, a row, a file, anything on a host."""
    before = await holdings(cloud)
    yield
    _require_none("left over", before.differences(await holdings(cloud)))


@asynccontextmanager
async def all_given_back(cloud: Cloud) -> AsyncIterator[None]:
    """Fails if quota, addresses, capacity, blobs or hosts are not as before soon after the block."""
    before = await holdings(cloud)
    yield
    found = before.lasting_differences(await holdings(cloud))
    try:
        async with asyncio.timeout(PATIENCE_S):
            while found:
                await asyncio.sleep(0.05)
                found = before.lasting_differences(await holdings(cloud))
    except TimeoutError:
        _require_none("not given back", found)


def _require_none(what: str, found: list[str]) -> None:
    if found:
        raise AssertionError("\n".join([f"{what}:", *found]))
