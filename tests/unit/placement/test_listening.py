"""A NATS server that was lost and is back: who spoke through it gets time to come back as well, and no more."""

from __future__ import annotations

from collections.abc import Hashable

import pytest

from cirra.agent.v1.desired_pb2 import Heartbeat
from placement.liveness.tracker import NEEDED_AGENTS, Tracker

WINDOW_S = 6.0
TICK_S = 0.25


class World:
    """A tracker, and the clock and the canaries that it goes by. All speak through `n0`, unless told."""

    def __init__(self) -> None:
        self.now = 100.0
        self.hearing = True
        self.ways: dict[str, Hashable] = {"n0": 1, "n1": 1}
        self.tracker = Tracker(window_s=WINDOW_S, monotonic=lambda: self.now)
        self._sequence = 0

    def beat(self, *hosts: str, server: str = "n0") -> None:
        self._sequence += 1
        for host in hosts:
            for agent in NEEDED_AGENTS:
                self.tracker.heard(
                    Heartbeat(component=agent, instance=host, boot_id="b1", sequence=self._sequence, nats_server=server)
                )

    def wait(self, seconds: float, *beating: str) -> None:
        for _ in range(round(seconds / TICK_S)):
            self.now += TICK_S
            self.tracker.tick(hearing=self.hearing, way=self.ways.get)
            self.beat(*beating)

    def silence(self, host: str) -> float:
        silence_s = self.tracker.silence_of("compute", host)
        assert silence_s is not None
        return silence_s


@pytest.fixture
def world() -> World:
    """All of it was looked at once."""
    world = World()
    world.beat("a", "b")
    world.wait(TICK_S, "a", "b")
    return world


def test_who_comes_back_within_a_window_of_its_server_was_never_silent(world: World) -> None:
    world.wait(1.0)  # lost already, and the canary is not missed yet
    world.hearing = False
    world.wait(60.0)
    world.hearing = True
    world.wait(WINDOW_S, "b")
    assert world.silence("a") == pytest.approx(1.0)
    assert world.silence("b") == 0.0
    world.wait(WINDOW_S - 1.25, "b")
    assert world.tracker.silent("a", for_s=WINDOW_S) == []
    world.wait(0.25, "b")
    assert world.tracker.silent("a", for_s=WINDOW_S) == [*NEEDED_AGENTS], "its time is over"


def test_who_has_come_back_and_falls_silent_gets_no_more_time(world: World) -> None:
    world.hearing = False
    world.wait(10.0)
    world.hearing = True
    world.wait(1.0, "a")
    world.wait(WINDOW_S)
    assert world.tracker.silent("a", for_s=WINDOW_S) == [*NEEDED_AGENTS]
    assert world.tracker.silent("b", for_s=WINDOW_S) == []


def test_a_connection_lost_and_made_again_between_two_looks_is_a_loss_too(world: World) -> None:
    world.beat("there", server="n1")
    world.ways["n0"] = 2
    world.wait(WINDOW_S)
    assert world.silence("a") == 0.0
    assert world.silence("there") == WINDOW_S, "its own server was there all the time"


def test_who_was_down_before_stays_it(world: World) -> None:
    world.wait(WINDOW_S, "b")
    world.hearing = False
    world.wait(10.0)
    world.hearing = True
    for _ in range(8):
        world.wait(1.0, "b")
        assert world.tracker.silent("a", for_s=WINDOW_S) == [*NEEDED_AGENTS]


def test_a_server_that_comes_and_goes_does_not_keep_the_dead_alive_for_ever(world: World) -> None:
    for _ in range(round(world.tracker.patience_in_doubt_s)):
        assert world.tracker.silent_in_doubt("a", for_s=world.tracker.patience_in_doubt_s) == []
        world.ways["n0"] = world.now
        world.wait(1.0, "b")
    assert world.silence("a") == 0.0
    assert world.tracker.silent_in_doubt("a", for_s=world.tracker.patience_in_doubt_s) == [*NEEDED_AGENTS]
    assert world.tracker.silent_in_doubt("b", for_s=1.0) == []


def test_what_another_replica_remembers_gives_nobody_a_second_chance(world: World) -> None:
    other = World()
    [known, *_] = [heard for heard in world.tracker.all() if heard.instance == "a"]
    other.tracker.remember(known)
    other.wait(1.0)
    other.hearing = False
    other.wait(10.0)
    other.hearing = True
    for _ in range(round(WINDOW_S / TICK_S)):
        assert other.silence("a") == pytest.approx(1.0), "neither does it take away the first"
        other.tracker.remember(known)
        other.wait(TICK_S)
    other.wait(WINDOW_S - 1.0)
    assert other.silence("a") == pytest.approx(WINDOW_S)
