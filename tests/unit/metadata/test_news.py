"""News of the log: who waits for a position has it looked for, and a restored log is followed anew."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest_asyncio

from core.eventlog.types import RecordedEvent
from core.projection import HistoryChanged
from metadata.news import News


class Log:
    """At `position`; what is in `coming` is told by the stream, the rest by a look. `told`: beginnings and events."""

    def __init__(self) -> None:
        self.position = 7
        self.coming: asyncio.Queue[int | Exception] = asyncio.Queue()
        self.told: list[str] = []
        self.followed = asyncio.Event()
        self.news = News(
            self.end,
            self.follow,
            lambda position: self.told.append(f"from {position}"),
            lambda event: self.told.append(f"event {event.position}"),
        )

    async def end(self) -> int:
        return self.position

    @asynccontextmanager
    async def follow(self, position: int) -> AsyncIterator[Any]:
        tail = SimpleNamespace(position=position, look=lambda: self.coming.put_nowait(self.position))
        self.followed.set()

        async def following() -> list[RecordedEvent]:
            coming = await self.coming.get()
            if isinstance(coming, Exception):
                raise coming
            tail.position = coming
            return [cast(RecordedEvent, SimpleNamespace(position=coming))]

        tail.next = following
        yield tail


@pytest_asyncio.fixture
async def log() -> AsyncIterator[Log]:
    """It is followed."""
    log = Log()
    running = asyncio.create_task(log.news.run())
    await log.followed.wait()
    yield log
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_what_comes_is_told(log: Log) -> None:
    log.position = 12
    log.coming.put_nowait(9)
    assert await log.news.wait_for(12, 60)
    assert log.told == ["from 7", "event 9", "event 12"]


async def test_who_waits_has_the_log_looked_at(log: Log) -> None:
    log.position = 12
    assert await log.news.wait_for(11, 60)
    assert log.told == ["from 7", "event 12"]


async def test_what_is_known_is_not_looked_for(log: Log) -> None:
    assert await log.news.wait_for(7, 60)
    assert log.coming.empty()


async def test_who_waits_in_vain_is_told(log: Log) -> None:
    assert not await log.news.wait_for(11, 0.01)


async def test_a_restored_log_is_followed_anew(log: Log) -> None:
    log.position = 5
    log.followed.clear()
    log.coming.put_nowait(HistoryChanged(7))
    await log.followed.wait()
    assert log.told == ["from 7", "from 5"]
    assert log.news.position == 5
