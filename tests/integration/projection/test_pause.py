"""A replica that is stopped (SIGSTOP) holds the others up for ten seconds at most; awake, it changes nothing."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from core.bus import Bus
from core.eventlog import EventLog, Leases
from core.projection import Projector
from core.relay import Relay
from core.testing.servers import Cell
from tests.integration.bus.handling import eventually
from tests.integration.bus.journal import append, assert_mirrors, until_stream_at

from .conftest import running
from .listing import Listing, assert_equals_log

ROOT = Path(__file__).parents[3]


@pytest_asyncio.fixture
async def replica(cell: Cell, bus: Bus) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.projection.replica",
        *(cell.dsn, cell.nats_url, str(cell.credentials), cell.name, "paused"),
        cwd=ROOT,
    )
    yield process
    assert process.returncode is None, "the replica ended by itself"
    process.kill()
    await process.wait()


@pytest.mark.parametrize("in_transaction", [False, True])
async def test_a_stopped_replica_is_replaced(
    cell: Cell, log: EventLog, leases: Leases, bus: Bus, replica: Process, in_transaction: bool
) -> None:
    schema = f"{cell.name}_reads"
    projector = Projector(Listing(), log=log, bus=bus, leases=leases, schema=schema, holder="other")
    await projector.prepare()
    assert await projector.wait_for(await append(log, 100), timeout=30)
    if in_transaction:
        await append(log, payload="slow")
        await eventually(lambda: is_in_a_transaction(log))
    replica.send_signal(signal.SIGSTOP)
    stopped_at = time.monotonic()
    projector.projection.gate.set()  # type: ignore[attr-defined]
    async with running(Relay(log, leases, bus, holder="other"), projector):
        position = await append(log, 100)
        assert await projector.wait_for(position, timeout=30)
        await until_stream_at(bus, position)
        assert time.monotonic() - stopped_at < 10
        replica.send_signal(signal.SIGCONT)
        for _ in range(10):
            position = await append(log, 20)
            assert await projector.wait_for(position, timeout=10)
        await until_stream_at(bus, position)
    await assert_mirrors(bus, log)
    await assert_equals_log(log, schema)


async def is_in_a_transaction(log: EventLog) -> bool:
    query = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND query LIKE '%INTO listed%'"
    return bool(await log.pool.fetchval(query) == 1)
