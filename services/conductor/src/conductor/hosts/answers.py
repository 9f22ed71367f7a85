"""Hands what a host reports to the step that waits for it, so that both are one append: the observation, and that the
step has succeeded by it.

It spares an append and the way through the log, and no more: who is not handed its answer finds it in the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from uuid import UUID

from cirra.agent.v1 import desired_pb2 as agent

# How long a report waits to be saved with its step, before it is saved by itself: a step may stand still with the
# report in its hands. Longer than Postgres takes when there is much to do: then is not the time to do it twice.
SAVED_WITHIN_S = 5.0

Fits = Callable[[agent.Report], bool]


class Expected:
    """What a step waits for. `report`: the one that it was handed."""

    def __init__(self, fits: Fits, wake: Callable[[], None]) -> None:
        self.report: agent.Report | None = None
        self._fits = fits
        self._wake = wake
        self._saved: asyncio.Future[bool] | None = None

    def hand(self, report: agent.Report) -> asyncio.Future[bool] | None:
        """Whether it was saved, in time. None: it is not what is waited for."""
        if self.report is not None or not self._fits(report):
            return None
        self.report = report
        self._saved = asyncio.get_running_loop().create_future()
        self._wake()
        return self._saved

    def settle(self, saved: bool) -> None:
        """The step is done with it: it is in the log with the step's success, or was not saved by it."""
        if self._saved is not None:
            _settle(self._saved, saved)

    def __del__(self) -> None:
        """Dropped by a step that has failed after all: not saved. It only spares the handler the rest of its wait."""
        if self._saved is not None and not self._saved.done():
            with suppress(RuntimeError):  # the event loop is closed
                self._saved.get_loop().call_soon_threadsafe(_settle, self._saved, False)


def _settle(saved: asyncio.Future[bool], outcome: bool) -> None:
    if not saved.done():
        saved.set_result(outcome)


class Answers:
    """By object, what the steps that run here wait for."""

    def __init__(self) -> None:
        self._expected: dict[UUID, Expected] = {}

    @contextmanager
    def expected(self, object_id: UUID, fits: Fits, wake: Callable[[], None]) -> Iterator[Expected]:
        """Within it, a report about the object that `fits` is handed over, and its step woken.

        What was handed over is the step's until it calls `settle`. Of two steps that wait for one object (one has
        adopted the other's run) the later is handed it.
        """
        expected = self._expected[object_id] = Expected(fits, wake)
        try:
            yield expected
        except BaseException:
            expected.settle(False)
            raise
        finally:
            if self._expected.get(object_id) is expected:
                del self._expected[object_id]

    async def take(self, object_id: UUID, report: agent.Report) -> bool:
        """Whether a step that waits for the report has saved it."""
        saved = self._handed(object_id, report)  # and nothing here keeps what it was handed to
        if saved is None:
            return False
        done, _ = await asyncio.wait((saved,), timeout=SAVED_WITHIN_S)
        return bool(done) and saved.result()

    def _handed(self, object_id: UUID, report: agent.Report) -> asyncio.Future[bool] | None:
        expected = self._expected.get(object_id)
        return expected.hand(report) if expected is not None else None
