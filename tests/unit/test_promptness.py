"""Promises in seconds: what is excused by a machine that is late, and what never is."""

from __future__ import annotations

import asyncio
import math
import time

import pytest

from tests.harness.promptness import ROUNDS, NotInTime, bound_s, in_rounds, in_time, lateness, within

LATE, IN_TIME = 0.0, math.inf


class Rounds:
    """Fails in as many as it is told to."""

    def __init__(self, failing: int, error: Exception) -> None:
        self.played = 0
        self._failing = failing
        self._error = error

    async def play(self) -> None:
        self.played += 1
        if self.played <= self._failing:
            raise self._error


async def test_a_late_machine_is_given_another_round() -> None:
    rounds = Rounds(ROUNDS - 1, NotInTime("soon"))
    await in_rounds(rounds.play, late_s=LATE)
    assert rounds.played == ROUNDS


@pytest.mark.parametrize(
    ("error", "late_s", "played"),
    [
        pytest.param(NotInTime("soon"), LATE, ROUNDS, id="though it is late each time"),
        pytest.param(NotInTime("soon"), IN_TIME, 1, id="since the machine was not late"),
        pytest.param(AssertionError("never"), LATE, 1, id="since it is no matter of time"),
    ],
)
async def test_a_promise_that_is_broken_fails(error: Exception, late_s: float, played: int) -> None:
    rounds = Rounds(ROUNDS, error)
    with pytest.raises(type(error)):
        await in_rounds(rounds.play, late_s=late_s)
    assert rounds.played == played


async def test_what_does_not_come_within_its_time() -> None:
    in_time(True, "it is so")
    with pytest.raises(NotInTime, match="it comes: not within 0 s"):
        async with within(0, "it comes"):
            await asyncio.Event().wait()
    with pytest.raises(TimeoutError, match="another's"):
        async with within(60, "it comes"):
            raise TimeoutError("another's")


async def test_a_process_that_does_not_run_is_late() -> None:
    async with lateness() as machine:
        await asyncio.sleep(0)
        time.sleep(0.2)  # noqa: ASYNC251 — the loop is held up
        async with asyncio.timeout(60):
            while not machine.worst_s:  # noqa: ASYNC110 — it looks in its own time
                await asyncio.sleep(0.01)
    assert machine.worst_s > 0.1


def test_a_bound_is_what_is_promised_and_at_most_twice_that() -> None:
    assert bound_s(10, work_s=0, waited_s=0) == 10
    assert bound_s(10, work_s=1, waited_s=2) == 15
    assert bound_s(10, work_s=100, waited_s=0) == 20
