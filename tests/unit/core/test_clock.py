"""The time of the database, told between two measurements."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from core import clock as clock_module
from core.clock import MAX_ROUND_TRIP_S, DatabaseClock

TOLD = datetime(2030, 1, 1, tzinfo=UTC)


class Machine:
    """`boot_time`: its clock. Each question takes the next of `trips` (seconds), or fails with the error there."""

    def __init__(self, *trips: float | Exception) -> None:
        self.boot_time = 50.0
        self._trips = list(trips)

    def clock(self) -> DatabaseClock:
        return DatabaseClock(self.ask, boot_time=lambda: self.boot_time)

    async def ask(self) -> datetime:
        trip = self._trips.pop(0)
        if isinstance(trip, Exception):
            raise trip
        self.boot_time += trip
        return TOLD


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock_module, "backoff", lambda: iter([0.0] * 10))


async def test_it_counts_on_from_the_middle_of_the_round_trip() -> None:
    machine = Machine(0.5)
    clock = machine.clock()
    await clock.measure()
    assert clock.now() == TOLD + timedelta(seconds=0.25)
    machine.boot_time += 3600.0
    assert clock.now() == TOLD + timedelta(seconds=3600.25)


@pytest.mark.parametrize("bad", [MAX_ROUND_TRIP_S * 3600, OSError("away")])
async def test_a_pause_or_an_outage_amid_a_measurement_is_not_believed(bad: float | Exception) -> None:
    machine = Machine(0.0, bad, 0.5)
    clock = machine.clock()
    await clock.measure()
    await clock.measure()
    assert clock.now() == TOLD + timedelta(seconds=0.25), "the answer that came at once"


async def test_what_does_not_pass_is_raised() -> None:
    with pytest.raises(ValueError):
        await Machine(ValueError("no such function")).clock().measure()


def test_no_time_is_told_before_it_is_known() -> None:
    ask: Callable[[], Awaitable[datetime]] = Machine().ask
    with pytest.raises(RuntimeError):
        DatabaseClock(ask).now()
