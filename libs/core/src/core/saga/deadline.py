"""A step's deadline: renewed by progress, capped, and standing still while the bus is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import TypeVar

from core.errors import DeadlineExceeded

T = TypeVar("T")

TICK_S = 0.5
# More than this between two looks: the process itself stood still, and nothing can have been done.
LONGEST_LOOK_S = 5.0


_at_work: ContextVar[Deadline | None] = ContextVar("deadline of the step at work", default=None)


@contextmanager
def standing_still() -> Iterator[None]:
    """Within it, the deadline of the step that calls it does not run: it waits for a person, and nothing is late."""
    deadline = _at_work.get()
    if deadline is None:
        yield
        return
    with deadline.held():
        yield


class Deadline:
    """Expires after `limit` without progress, and after `cap` in any case.

    `spent`: what earlier runners of the step took of the cap, by the log's times; a runner that adopts it starts anew
    with the limit. What passes here is measured on the monotonic clock, and counts only while `running()`.
    """

    def __init__(
        self,
        limit: timedelta,
        cap: timedelta,
        *,
        running: Callable[[], bool],
        spent: timedelta = timedelta(),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit_s, self._cap_s = limit.total_seconds(), cap.total_seconds()
        self._since_progress_s, self._total_s = 0.0, spent.total_seconds()
        self._running, self._monotonic = running, monotonic
        self._last = monotonic()
        self._holds = 0

    @contextmanager
    def held(self) -> Iterator[None]:
        """It does not run within, and begins anew afterwards: earlier runners may have `spent` their time waiting."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
            self._last = self._monotonic()
            self._since_progress_s = self._total_s = 0.0

    def touch(self) -> None:
        """Progress was made."""
        self._since_progress_s = 0.0

    @property
    def expired(self) -> bool:
        self._count()
        if self._holds:
            return False
        return self._since_progress_s >= self._limit_s or self._total_s >= self._cap_s

    def _count(self) -> None:
        """What has passed since the last look counts, or not, as things are now."""
        now = self._monotonic()
        if self._running() and not self._holds:
            passed = min(now - self._last, LONGEST_LOOK_S)
            self._since_progress_s += passed
            self._total_s += passed
        self._last = now

    def _exceeded(self) -> DeadlineExceeded:
        if self._since_progress_s >= self._limit_s:
            return DeadlineExceeded(f"no progress for {self._limit_s:.0f} s")
        return DeadlineExceeded(f"not done after {self._cap_s:.0f} s, whatever the progress")

    async def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Awaits the work; cancels it and raises `DeadlineExceeded` once the deadline has passed."""
        token = _at_work.set(self)
        try:
            async with asyncio.timeout(None) as timeout:
                with self._looked_at(timeout):
                    return await work()
        except TimeoutError:
            if timeout.expired():
                raise self._exceeded() from None
            raise  # the work's own
        finally:
            _at_work.reset(token)

    @contextmanager
    def _looked_at(self, timeout: asyncio.Timeout) -> Iterator[None]:
        """Within it, what it times out at once when the deadline is seen to have passed."""
        loop = asyncio.get_running_loop()
        timers: list[asyncio.TimerHandle] = []

        def look() -> None:
            if self.expired:
                timeout.reschedule(loop.time())
            else:
                timers[:] = [loop.call_later(TICK_S, look)]

        timers.append(loop.call_later(TICK_S, look))
        try:
            yield
        finally:
            timers[0].cancel()
