"""Whatever it is doing, a relay, a projector and a pull loop end when they are cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any
from uuid import uuid4

from core.bus import Bus, PullLoop, Received, ensure_report_consumer
from core.bus.publish import publish_bytes
from core.eventlog import EventLog, Leases
from core.relay import Relay
from tests.integration.bus.journal import append

from .conftest import MakeProjector

ROUNDS = 40
STEP_S = 0.0037  # so that the cancellations fall into all phases of the work


async def cancel_in_all_phases(start: Callable[[], Coroutine[Any, Any, None]]) -> None:
    for number in range(ROUNDS):
        task = asyncio.create_task(start())
        await asyncio.sleep(0.02 + number * STEP_S)
        assert not task.done(), task
        task.cancel()
        done, _ = await asyncio.wait((task,), timeout=30)
        assert done, f"round {number}: {task}"
        assert task.cancelled(), task


async def test_parts_that_follow_the_log_end_when_cancelled(
    log: EventLog, leases: Leases, bus: Bus, make_projector: MakeProjector
) -> None:
    async def write() -> None:
        while True:
            await append(log, 5, per_append=1)

    writing = asyncio.create_task(write())
    try:
        await asyncio.gather(
            cancel_in_all_phases(lambda: Relay(log, leases, bus, holder="r").run()),
            cancel_in_all_phases(lambda: make_projector().run()),
        )
        assert not writing.done(), writing
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


async def test_a_pull_loop_ends_when_cancelled(bus: Bus) -> None:
    await ensure_report_consumer(bus, "conductor")

    async def handle(received: Received) -> None:
        await bus.js.stream_info(bus.subjects.reports_stream)

    async def write() -> None:
        while True:
            subject = bus.subjects.reports("h1", "net", "PortObserved", uuid4())
            await publish_bytes(bus, subject, b"x", {}, message_id=str(uuid4()))

    writing = asyncio.create_task(write())
    try:
        stream = bus.subjects.reports_stream
        await cancel_in_all_phases(lambda: PullLoop(bus, stream, "conductor", handle, concurrency=4).run())
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
