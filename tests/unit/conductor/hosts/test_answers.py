"""Reports handed to the step that waits for them."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from cirra.agent.v1 import desired_pb2 as agent
from conductor.hosts import answers as module
from conductor.hosts.answers import Answers
from core.ids import uuid7

PORT = uuid7()


def report(generation: int = 1) -> agent.Report:
    return agent.Report(host="host-1", object_id=str(PORT), generation=generation)


PATIENCE_S = 120.0


class Step:
    """Waits for the second generation; `woken`: how often it was told to look."""

    def __init__(self, answers: Answers) -> None:
        self.woken = 0
        self.expecting = answers.expected(PORT, lambda report: report.generation >= 2, self._wake)

    def _wake(self) -> None:
        self.woken += 1


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the machine is busy, a step is given time to save what it was handed."""
    monkeypatch.setattr(module, "SAVED_WITHIN_S", PATIENCE_S)


async def handed(answers: Answers, given: agent.Report, object_id: UUID = PORT) -> asyncio.Task[bool]:
    """The handler's task, which has had its chance to hand it over."""
    task = asyncio.create_task(answers.take(object_id, given))
    await asyncio.sleep(0)
    return task


async def test_a_report_is_saved_with_the_step_that_waits_for_it() -> None:
    answers = Answers()
    step = Step(answers)
    with step.expecting as expected:
        taken = await handed(answers, report(2))
        assert (expected.report, step.woken) == (report(2), 1)
    assert not taken.done()
    expected.settle(True)
    assert await taken


async def test_what_nobody_waits_for_is_the_handlers() -> None:
    answers = Answers()
    with Step(answers).expecting as expected:
        assert not await answers.take(PORT, report(1))
        assert not await answers.take(uuid7(), report(2))
        assert expected.report is None
    assert not await answers.take(PORT, report(2))


async def test_a_step_is_handed_one_report() -> None:
    answers = Answers()
    with Step(answers).expecting as expected:
        first = await handed(answers, report(2))
        assert not await answers.take(PORT, report(3))
        expected.settle(True)
    assert await first


async def test_what_a_step_could_not_save_is_the_handlers() -> None:
    answers = Answers()
    with Step(answers).expecting as expected:
        refused = await handed(answers, report(2))
    expected.settle(False)
    assert not await refused

    with pytest.raises(RuntimeError), Step(answers).expecting:
        broken = await handed(answers, report(2))
        raise RuntimeError("the step breaks")
    assert not await broken


async def test_what_a_step_drops_is_the_handlers_at_once() -> None:
    answers = Answers()

    async def do() -> None:
        with Step(answers).expecting:
            await asyncio.sleep(0.01)
        # It could now give what it was handed to be saved, and does not.

    step = asyncio.create_task(do())
    await asyncio.sleep(0)
    dropped = await handed(answers, report(2))
    await step
    async with asyncio.timeout(PATIENCE_S / 2):
        assert not await dropped


async def test_a_step_that_stands_still_keeps_no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAVED_WITHIN_S", 0.01)
    answers = Answers()
    with Step(answers).expecting as expected:
        assert not await answers.take(PORT, report(2))
        expected.settle(True)  # it comes late, and hurts nobody


async def test_of_two_that_wait_the_later_is_handed_it() -> None:
    answers = Answers()
    with Step(answers).expecting as earlier, Step(answers).expecting as later:
        taken = await handed(answers, report(2))
        assert (earlier.report, later.report) == (None, report(2))
        later.settle(True)
    assert await taken
