"""A step's deadline: renewed by progress, capped, and standing still while nothing can be done."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from core.errors import DeadlineExceeded
from core.saga.deadline import LONGEST_LOOK_S, TICK_S, Deadline

LIMIT, CAP = timedelta(seconds=60), timedelta(seconds=150)


class Clock:
    """Looks at the deadline each second, as its `run` does twice as often."""

    def __init__(self, *, spent: timedelta = timedelta()) -> None:
        self.now_s = 1000.0
        self.running = True
        self.deadline = Deadline(LIMIT, CAP, running=lambda: self.running, spent=spent, monotonic=lambda: self.now_s)

    def expires_within(self, seconds: int) -> bool:
        for _ in range(seconds):
            self.now_s += 1
            if self.deadline.expired:
                return True
        return False


def test_it_expires_without_progress() -> None:
    clock = Clock()
    assert not clock.expires_within(59)
    assert clock.expires_within(1)


def test_progress_renews_it_up_to_the_cap() -> None:
    clock = Clock()
    for _ in range(2):
        assert not clock.expires_within(59)
        clock.deadline.touch()
    assert not clock.expires_within(31)
    assert clock.expires_within(1), "150 s after its beginning"


def test_it_stands_still_while_nothing_can_be_done() -> None:
    clock = Clock()
    assert not clock.expires_within(50)
    clock.running = False
    assert not clock.expires_within(3600)
    clock.running = True
    assert not clock.expires_within(9)
    assert clock.expires_within(1)


def test_a_pause_of_the_process_itself_hardly_counts() -> None:
    clock = Clock()
    clock.now_s += 3600
    assert not clock.deadline.expired
    assert not clock.expires_within(int(60 - LONGEST_LOOK_S) - 1)
    assert clock.expires_within(1)


def test_what_earlier_runners_spent_counts_for_the_cap_alone() -> None:
    clock = Clock(spent=timedelta(seconds=100))
    assert not clock.expires_within(49)
    assert clock.expires_within(1)
    assert not Clock(spent=timedelta(seconds=80)).expires_within(59)


async def test_the_work_is_broken_off_and_the_reason_told() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    for limit, cap, words in ((TICK_S / 10, 60, "no progress"), (60, TICK_S / 10, "whatever the progress")):
        ended.clear()
        deadline = Deadline(timedelta(seconds=limit), timedelta(seconds=cap), running=lambda: True)
        with pytest.raises(DeadlineExceeded, match=words):
            await deadline.run(work)
        assert ended.is_set()


async def test_work_that_ends_in_time_gives_its_result() -> None:
    async def work() -> int:
        return 7

    assert await Deadline(LIMIT, CAP, running=lambda: True).run(work) == 7
