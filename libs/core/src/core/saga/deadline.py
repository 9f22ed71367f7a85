"""A step's deadline: renewed by progress, capped, and standing still while the bus is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from core.errors import DeadlineExceeded

T = TypeVar("T")

TICK_S = 0.5


class Deadline:
    """Measures on this process's monotonic clock; a runner that adopts the step starts anew."""

    def __init__(
        self,
        limit: timedelta,
        cap: timedelta,
        *,
        running: Callable[[], bool],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit_s, self._cap_s = limit.total_seconds(), cap.total_seconds()
        self._since_progress_s = self._total_s = 0.0
        self._running, self._monotonic = running, monotonic
        self._last = monotonic()

    def touch(self) -> None:
        """Progress was made."""
        self._since_progress_s = 0.0

    @property
    def expired(self) -> bool:
        now = self._monotonic()
        if self._running():
            self._since_progress_s += now - self._last
            self._total_s += now - self._last
        self._last = now
        return self._since_progress_s >= self._limit_s or self._total_s >= self._cap_s

    async def run(self, work: Awaitable[T]) -> T:
        """Awaits the work; cancels it and raises `DeadlineExceeded` once the deadline has passed."""
        task = asyncio.ensure_future(work)
        try:
            while True:
                done, _ = await asyncio.wait({task}, timeout=TICK_S)
                if done:
                    return task.result()
                if self.expired:
                    raise DeadlineExceeded(f"no progress for {self._limit_s:.0f} s")
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
