"""A log in a schema of its own, dropped after the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest
import pytest_asyncio

from core.eventlog import EventLog
from core.eventlog.schema import quote_identifier
from core.testing.invariants_log import all_events, gaps
from core.testing.invariants_violation import Violation
from tests.integration.conftest import broken_on_purpose

OpenLog = Callable[..., Awaitable[EventLog]]


@pytest_asyncio.fixture
async def open_log(request: pytest.FixtureRequest, postgres_dsn: str, cell_name: str) -> AsyncIterator[OpenLog]:
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
    if logs:
        broken = {violation.invariant for violation in await _violations(schema, postgres_dsn)}
        assert broken == broken_on_purpose(request)
    connection = await asyncpg.connect(postgres_dsn)
    await connection.execute(f"DROP SCHEMA IF EXISTS {quote_identifier(schema)} CASCADE")
    await connection.close()


@pytest_asyncio.fixture
async def log(open_log: OpenLog) -> EventLog:
    """The test's log."""
    return await open_log()


async def _violations(schema: str, dsn: str) -> list[Violation]:
    """Of the one invariant that a log of made-up events has."""
    log = await EventLog.open(dsn, schema=schema, pool_size=1)
    try:
        head = await log.head()
        return list(gaps(await all_events(log, head.position), head))
    finally:
        await log.close()
