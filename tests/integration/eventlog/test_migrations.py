"""The log's schema belongs to the code that made it."""

from __future__ import annotations

import asyncpg
import pytest

from core.eventlog import EventLog, SchemaMismatch
from core.eventlog.schema import quote_identifier
from tests.integration.eventlog.conftest import OpenLog


async def test_a_database_of_another_version_is_refused_with_what_to_do(
    log: EventLog, open_log: OpenLog, cell_name: str, postgres_dsn: str
) -> None:
    connection = await asyncpg.connect(postgres_dsn)
    table = f"{quote_identifier(f'{cell_name}_log')}.migrations"
    name, checksum = (await connection.fetch(f"SELECT name, checksum FROM {table} ORDER BY name"))[0]
    change = f"UPDATE {table} SET checksum = $2 WHERE name = $1"
    await connection.execute(change, name, "another")
    with pytest.raises(SchemaMismatch, match=f"made by another version of Cirra .*{name}") as refused:
        await open_log()
    assert "--purge" in refused.value.remedy
    await connection.execute(change, name, checksum)  # the fixture looks at the log once more
    await connection.close()
