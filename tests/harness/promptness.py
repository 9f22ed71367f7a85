"""Promises in seconds, on a machine that may be busy.

What is promised is asserted as it is promised. A machine that keeps processes from running for a while can break such
a promise though the product does all that it can: whether it did so is measured, and only then is the test's round run
again. A test whose last round fails has failed, however late the machine was.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

ROUNDS = 3
_LOOK_EVERY_S = 0.02
_NS_PER_S = 1e9

_log = logging.getLogger(__name__)


class NotInTime(AssertionError):
    """Something was not as it is where processes get their time."""


def in_time(holds: bool, promise: str) -> None:
    """Raises NotInTime unless it holds; see `in_rounds`."""
    if not holds:
        raise NotInTime(promise)


def bound_s(promised_s: float, *, work_s: float, waited_s: float) -> float:
    """What may pass where so many seconds of waiting are promised, at most twice that.

    *work_s*: what a part of the work has just taken, undisturbed; *waited_s*: how long the one that does it was kept
    from running (`Lateness.total_s`). On a quiet machine both are next to nothing.
    """
    return promised_s + min(3 * work_s + waited_s, promised_s)


@asynccontextmanager
async def within(seconds: float, promise: str) -> AsyncIterator[None]:
    """Cancels the block after so many seconds, and raises NotInTime."""
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise NotInTime(f"{promise}: not within {seconds:g} s") from error


class Lateness:
    """`worst_s`: the longest that the machine kept this process, or one of those watched, from running. `total_s`: how
    long it kept the one that it kept the longest in all."""

    def __init__(self, pids: Callable[[], Iterable[int]]) -> None:
        self.worst_s = 0.0
        self.total_s = 0.0
        self._totals_s: dict[int, float] = {}
        self._pids = pids
        self._waited_s: dict[int, float] = {}

    async def watch(self) -> None:
        """For ever."""
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            await asyncio.sleep(_LOOK_EVERY_S)
            self.worst_s = max(self.worst_s, clock() - began - _LOOK_EVERY_S, *self._waits())

    def _waits(self) -> list[float]:
        """How long each of the watched has waited for a processor since the last look."""
        before, self._waited_s = self._waited_s, {pid: _waited_s(pid) for pid in self._pids()}
        waits = {pid: waited_s - before.get(pid, waited_s) for pid, waited_s in self._waited_s.items()}
        for pid, wait_s in waits.items():
            self._totals_s[pid] = self._totals_s.get(pid, 0.0) + wait_s
        self.total_s = max(self._totals_s.values(), default=0.0)
        return [*waits.values()]


@asynccontextmanager
async def lateness(pids: Callable[[], Iterable[int]] = tuple) -> AsyncIterator[Lateness]:
    """Of the machine, as long as the block lasts, towards this process and those with these ids."""
    late = Lateness(pids)
    watching = asyncio.create_task(late.watch())
    try:
        yield late
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def in_rounds(
    play: Callable[[], Awaitable[None]], *, late_s: float, pids: Callable[[], Iterable[int]] = tuple
) -> None:
    """Plays a round; another one, up to `ROUNDS`, if what failed in it is a matter of time (NotInTime), and the machine
    was late by `late_s` meanwhile. Each round must begin with putting right what an earlier one may have left."""
    for left in reversed(range(ROUNDS)):
        async with lateness(pids) as machine:
            try:
                return await play()
            except NotInTime as error:
                error.add_note(
                    f"the machine was late by {machine.worst_s:.2f} s at worst; {late_s:g} s would excuse it"
                )
                if not left or machine.worst_s < late_s:
                    raise
                _log.warning("another round: late by %.2f s, %s", machine.worst_s, error)


def _waited_s(pid: int) -> float:
    """On the run queue, in all: of its main thread (proc_pid_schedstat(5)); 0 when it has ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / _NS_PER_S
    return 0.0
