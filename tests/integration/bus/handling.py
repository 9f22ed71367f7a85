"""What the tests of the pull loop share: a handler that keeps what it got, and waiting for a condition."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from core.bus import PullLoop, Received


class Collector:
    """A handler that keeps the payloads in the order in which their handling ended."""

    def __init__(self) -> None:
        self.payloads: list[str] = []
        self.received: list[Received] = []
        self._changed = asyncio.Event()

    async def __call__(self, received: Received) -> None:
        self.received.append(received)
        self.payloads.append(received.data.decode())
        self.changed()

    def changed(self) -> None:
        self._changed.set()

    async def until(self, condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not condition():
                await self._changed.wait()
                self._changed.clear()

    async def until_all(self, *payloads: str, timeout_s: float = 60.0) -> None:
        await self.until(lambda: set(payloads) <= set(self.payloads), timeout_s)


async def eventually(condition: Callable[[], Awaitable[bool]], timeout_s: float = 60.0) -> None:
    """Until the condition, which asks a server, holds; TimeoutError when it does not in time."""
    async with asyncio.timeout(timeout_s):
        while not await condition():  # noqa: ASYNC110 — a server is asked, nobody tells
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running(loop: PullLoop) -> AsyncIterator[asyncio.Task[None]]:
    """The loop as a task, cancelled at the end; a loop that ended by itself fails the test."""
    task = asyncio.create_task(loop.run())
    try:
        yield task
        assert not task.done(), f"the loop ended: {task}"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
