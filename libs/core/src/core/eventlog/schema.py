"""Migrations: numbered SQL files of this package, applied once each, in order, to a schema.

In the files `:"schema"` and `:'schema'` stand for the schema as an identifier and as a literal, as in psql.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

from core.eventlog.connections import Connection
from core.eventlog.errors import SchemaMismatch

_MAX_SCHEMA_LENGTH = 48  # of Postgres's 63 bytes: names that we derive from the schema's are longer


@dataclass(frozen=True, slots=True)
class Migration:
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def quote_identifier(name: str) -> str:
    """An identifier as SQL text (Postgres manual, section 4.1.1)."""
    return '"' + name.replace('"', '""') + '"'


def quote_literal(text: str) -> str:
    """A string constant as SQL text; needs `standard_conforming_strings`, the default since Postgres 9.1."""
    return "'" + text.replace("'", "''") + "'"


def check_schema_name(schema: str) -> str:
    """The name itself; ValueError when it is empty, too long to derive names from, or holds a NUL."""
    if not schema or "\0" in schema or len(schema.encode()) > _MAX_SCHEMA_LENGTH:
        raise ValueError(f"not a usable schema name (1 to {_MAX_SCHEMA_LENGTH} bytes): {schema!r}")
    return schema


def bind_schema(sql: str, schema: str) -> str:
    """`sql` with the placeholders of the schema filled in."""
    forms = {':"schema"': quote_identifier(schema), ":'schema'": quote_literal(schema)}
    return re.sub(r""":"schema"|:'schema'""", lambda match: forms[match.group()], sql)


@cache
def packaged(*names: str) -> tuple[Migration, ...]:
    """The migrations with these names, from `core/eventlog/sql/<name>.sql`."""
    folder = resources.files("core.eventlog") / "sql"
    return tuple(Migration(name, (folder / f"{name}.sql").read_text()) for name in names)


async def migrate(connection: Connection, schema: str, migrations: tuple[Migration, ...]) -> None:
    """Creates the schema when it is absent and applies what it lacks.

    Replicas that start at once wait for one another. Unknown migrations in the database are left alone: they
    are a newer replica's, and migrations only add. Raises SchemaMismatch when an applied one has changed.
    """
    check_schema_name(schema)
    quoted = quote_identifier(schema)
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"migrate:{schema}")
        await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted}")
        await connection.execute(
            f"CREATE TABLE IF NOT EXISTS {quoted}.migrations (name text PRIMARY KEY, checksum text NOT NULL,"
            " applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
        )
        rows = await connection.fetch(f"SELECT name, checksum FROM {quoted}.migrations")
        applied = {row["name"]: row["checksum"] for row in rows}
        for migration in migrations:
            if migration.name not in applied:
                await connection.execute(bind_schema(migration.sql, schema))
                await connection.execute(
                    f"INSERT INTO {quoted}.migrations (name, checksum) VALUES ($1, $2)",
                    migration.name,
                    migration.checksum,
                )
            elif applied[migration.name] != migration.checksum:
                raise SchemaMismatch(
                    f"schema {schema} of the database was made by another version of Cirra"
                    f" (its migration {migration.name} is not the one of this code)",
                    remedy="start that version again, or begin with an empty database"
                    " (`make down ARGS=--purge` deletes all that this cloud has)",
                )
