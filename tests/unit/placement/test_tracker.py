"""Silence, measured on a clock that the test moves."""

from __future__ import annotations

import dataclasses

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
    assert {heard.component: heard.up for heard in tracker.all()} == {"compute": True, "net": False}


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


def through(tracker: Tracker, server: str, host: str, sequence: int = 1, boot: str = "b1") -> None:
    for component in ("compute", "net"):
        tracker.heard(
            Heartbeat(component=component, instance=host, boot_id=boot, sequence=sequence, nats_server=server)
        )


def test_who_spoke_through_a_server_that_is_out_of_reach_is_in_doubt_and_others_are_not(
    tracker: Tracker, clock: Clock
) -> None:
    through(tracker, "n0", "here")
    through(tracker, "n1", "there")
    for _ in range(40):
        clock.now += 0.25
        tracker.tick(hearing=True, way=lambda server: None if server == "n1" else server)
    assert tracker.silence_of("compute", "here") == 10.0
    assert tracker.silence_of("compute", "there") == 0.0
    assert tracker.silent_in_doubt("there", for_s=10.0) == ["compute", "net"]
    assert tracker.nats_servers("there") == ["n1"]
    through(tracker, "n0", "there", sequence=2)
    assert tracker.silent_in_doubt("there", for_s=0.1) == [], "it has found another server"


def test_doubt_ends_when_its_patience_does(tracker: Tracker, clock: Clock) -> None:
    through(tracker, "n1", "there")
    for _ in range(int(tracker.patience_in_doubt_s * 4)):
        assert all(heard.up for heard in tracker.all())
        clock.now += 0.25
        tracker.tick(hearing=True, way=lambda server: None)
    assert not any(heard.up for heard in tracker.all())


def replica(boot: str, sequence: int, *, leaving: bool = False) -> Heartbeat:
    return Heartbeat(component="conductor", instance="c1", boot_id=boot, sequence=sequence, leaving=leaving)


def test_a_replica_that_leaves_is_not_missed(tracker: Tracker) -> None:
    tracker.heard(replica("b1", 1))
    tracker.heard(replica("b1", 2, leaving=True))
    assert [*tracker.all()] == []
    tracker.heard(replica("b2", 1))
    tracker.heard(replica("b1", 3, leaving=True))
    assert [heard.boot_id for heard in tracker.all()] == ["b2"], "its next life had begun"


def test_an_agent_never_leaves(tracker: Tracker) -> None:
    tracker.heard(Heartbeat(component="net", instance="host-1", boot_id="b1", sequence=1, leaving=True))
    assert [heard.instance for heard in tracker.all()] == ["host-1"]


@pytest.mark.parametrize("up", [True, False])
def test_what_another_replica_knew_holds_for_a_window(tracker: Tracker, clock: Clock, up: bool) -> None:
    tracker.heard(replica("b1", 7))
    [known] = tracker.all()
    other = Tracker(window_s=6.0, monotonic=clock)
    other.remember(dataclasses.replace(known, up=up))
    assert [heard.up for heard in other.all()] == [up]
    pass_time(other, clock, 3.0)
    other.remember(dataclasses.replace(known, up=up))
    pass_time(other, clock, 3.0)
    assert [heard.up for heard in other.all()] == [False], "to be reminded is not to hear"
    other.heard(replica("b1", 8))
    other.remember(dataclasses.replace(known, up=False))
    assert [heard.up for heard in other.all()] == [True]


def test_nobody_is_remembered_who_has_left(tracker: Tracker) -> None:
    tracker.heard(replica("b1", 1))
    [known] = tracker.all()
    tracker.heard(replica("b1", 2, leaving=True))
    tracker.remember(known)
    assert [*tracker.all()] == []


def test_who_is_remembered_can_be_forgotten_and_who_was_heard_can_not(tracker: Tracker, clock: Clock) -> None:
    tracker.heard(replica("b1", 1))
    [known] = tracker.all()
    tracker.forget("conductor", "c1")
    assert [*tracker.all()]
    other = Tracker(window_s=6.0, monotonic=clock)
    other.remember(known)
    other.forget("conductor", "c1")
    assert [*other.all()] == []
