"""Silence, measured on a clock that the test moves."""

from __future__ import annotations

import pytest

from cirra.agent.v1.desired_pb2 import Heartbeat
from placement.liveness.tracker import Tracker


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tracker(clock: Clock) -> Tracker:
    return Tracker(window_s=6.0, monotonic=clock)


def beat(tracker: Tracker, component: str, sequence: int, boot: str = "b1", host: str = "host-1") -> None:
    tracker.heard(Heartbeat(component=component, instance=host, boot_id=boot, sequence=sequence))


def pass_time(tracker: Tracker, clock: Clock, seconds: float, *, hearing: bool = True) -> None:
    for _ in range(round(seconds * 4)):
        clock.now += 0.25
        tracker.tick(hearing=hearing)


def test_who_is_heard_is_not_silent(tracker: Tracker, clock: Clock) -> None:
    for sequence in range(1, 20):
        for component in ("compute", "net"):
            beat(tracker, component, sequence)
        pass_time(tracker, clock, 1.0)
    assert tracker.silent("host-1", for_s=3.0) == []
    assert all(heard.up for heard in tracker.all())


def test_a_needed_agent_that_is_silent_makes_the_host_so(tracker: Tracker, clock: Clock) -> None:
    beat(tracker, "compute", 1)
    beat(tracker, "net", 1)
    pass_time(tracker, clock, 4.0)
    beat(tracker, "compute", 2)
    pass_time(tracker, clock, 2.0)
    assert tracker.silent("host-1", for_s=6.0) == ["net"]
    assert {heard.component: heard.up for heard in tracker.all()} == {"compute-agent": True, "net-agent": False}


def test_silence_counts_only_while_the_own_ears_work(tracker: Tracker, clock: Clock) -> None:
    beat(tracker, "compute", 1)
    pass_time(tracker, clock, 60.0, hearing=False)
    assert tracker.silence_of("compute", "host-1") == 0.0


def test_a_paused_detector_blames_nobody(tracker: Tracker, clock: Clock) -> None:
    beat(tracker, "compute", 1)
    clock.now += 3600.0
    tracker.tick(hearing=True)
    assert tracker.silence_of("compute", "host-1") == 0.0


def test_a_delayed_heartbeat_of_the_same_life_proves_nothing(tracker: Tracker, clock: Clock) -> None:
    beat(tracker, "compute", 9)
    pass_time(tracker, clock, 5.0)
    beat(tracker, "compute", 8)
    assert tracker.silence_of("compute", "host-1") == 5.0
    beat(tracker, "compute", 1, boot="b2")
    assert tracker.silence_of("compute", "host-1") == 0.0


def test_after_a_takeover_a_full_window_passes(tracker: Tracker, clock: Clock) -> None:
    tracker.expect("compute", "host-1")
    pass_time(tracker, clock, 5.0)
    assert tracker.silence_of("compute", "host-1") == 5.0
    assert tracker.boot_ids("host-1") == {}


def test_boot_ids_tell_one_life_of_a_host_from_the_next(tracker: Tracker) -> None:
    beat(tracker, "compute", 1, boot="b1")
    beat(tracker, "net", 1, boot="b1")
    assert tracker.boot_ids("host-1") == {"compute": "b1", "net": "b1"}
