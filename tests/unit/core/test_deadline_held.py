"""A step that waits for a person is not late."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from core.errors import DeadlineExceeded
from core.saga import standing_still
from core.saga.deadline import Deadline


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def deadline(clock: Clock, limit_s: float = 10.0) -> Deadline:
    return Deadline(timedelta(seconds=limit_s), timedelta(seconds=limit_s * 3), running=lambda: True, monotonic=clock)


def test_it_stands_still_while_it_is_held() -> None:
    clock = Clock()
    held = deadline(clock)
    clock.now = 4.0
    with held.held():
        for _ in range(100):
            clock.now += 4.0
            assert not held.expired
    for _ in range(2):
        clock.now += 4.0
        assert not held.expired
    clock.now += 4.0
    assert held.expired


def test_a_runner_that_adopts_a_step_that_waits_gives_it_all_of_its_time() -> None:
    """The one before it waited for days, which the log's times don't tell from work."""
    clock = Clock()
    limit = timedelta(seconds=10)
    adopted = Deadline(limit, limit * 3, running=lambda: True, spent=timedelta(days=2), monotonic=clock)
    with adopted.held():
        assert not adopted.expired
    assert not adopted.expired


async def test_the_step_itself_holds_it() -> None:
    clock = Clock()
    running, go_on = deadline(clock, 8.0), asyncio.Event()

    async def step() -> None:
        with standing_still():
            go_on.set()
            await asyncio.sleep(0)
        await asyncio.Event().wait()

    work = asyncio.create_task(running.run(step))
    await go_on.wait()
    clock.now += 4.0
    assert not running.expired
    await asyncio.sleep(0.01)
    clock.now += 4.0
    assert not running.expired, "four seconds of eight: those before were held"
    clock.now += 4.5
    with pytest.raises(DeadlineExceeded):
        await work


async def test_who_is_in_no_step_holds_nothing() -> None:
    with standing_still():
        await asyncio.sleep(0)
