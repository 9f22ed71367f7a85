"""A log in a schema of its own, dropped after the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest_asyncio

from core.eventlog import EventLog
from core.eventlog.schema import quote_identifier

OpenLog = Callable[..., Awaitable[EventLog]]


@pytest_asyncio.fixture
async def open_log(postgres_dsn: str, cell_name: str) -> AsyncIterator[OpenLog]:
    """Opens further replicas of the test's log; all are closed after the test."""
    logs: list[EventLog] = []
    schema = f"{cell_name}_log"

    async def open_replica(dsn: str = postgres_dsn, **options: object) -> EventLog:
        log = await EventLog.open(dsn, schema=schema, **options)  # type: ignore[arg-type]
        logs.append(log)
        return log

    yield open_replica
    for log in logs:
        await log.close()
    connection = await asyncpg.connect(postgres_dsn)
    await connection.execute(f"DROP SCHEMA IF EXISTS {quote_identifier(schema)} CASCADE")
    await connection.close()


@pytest_asyncio.fixture
async def log(open_log: OpenLog) -> EventLog:
    """The test's log."""
    return await open_log()
