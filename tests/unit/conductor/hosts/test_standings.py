"""What a replica knows of hosts' standing: read once in a moment, and anew after news."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

from conductor.hosts.desired_state import HostStanding
from conductor.hosts.standings import FRESH_S, Standings


@dataclass
class Rows:
    """What is projected, and how often it was read."""

    down: bool = False
    epoch: int = 1
    life: int = 1
    now: float = 100.0
    reads: int = 0
    meanwhile: list[Any] = field(default_factory=list)
    in_the_log: list[Any] = field(default_factory=list)

    async def read(self, host: str) -> HostStanding:
        self.reads += 1
        found = HostStanding(self.epoch, 1, self.down)
        while self.meanwhile:
            self.meanwhile.pop()()
        return found

    async def catch_up(self) -> None:
        while self.in_the_log:
            self.in_the_log.pop()()

    def standings(self) -> Standings:
        standings = Standings(self.read, life=lambda: self.life, monotonic=lambda: self.now, caught_up=self.catch_up)
        standings.happened(event("instance"))
        self.now += FRESH_S
        return standings


def event(aggregate_type: str, epoch: int = 1) -> Any:
    return cast(Any, SimpleNamespace(aggregate_type=aggregate_type, epoch=epoch))


async def test_it_is_read_once_in_a_moment() -> None:
    rows = Rows()
    standings = rows.standings()
    for _ in range(5):
        assert not (await standings.standing("h")).down
        standings.happened(event("instance"))
    assert rows.reads == 1
    rows.down = True
    rows.now += FRESH_S
    assert (await standings.standing("h")).down


async def test_each_host_has_its_own() -> None:
    rows = Rows()
    standings = rows.standings()
    await standings.standing("a")
    await standings.standing("b")
    assert rows.reads == 2


async def test_after_an_event_of_a_host_it_is_read_each_time_for_a_moment() -> None:
    rows = Rows()
    standings = rows.standings()
    await standings.standing("h")
    standings.happened(event("host"))
    assert not (await standings.standing("h")).down  # the projection is behind the event
    rows.down = True
    assert (await standings.standing("h")).down


async def test_those_who_ask_at_once_share_a_look() -> None:
    rows = Rows()
    standings = rows.standings()
    standings.happened(event("host"))  # what is read now is not kept
    await asyncio.gather(*(standings.standing("h") for _ in range(5)))
    assert rows.reads == 1
    await asyncio.gather(standings.standing("h"), standings.standing("other"))
    assert rows.reads == 3


async def test_who_asks_after_news_shares_no_look_that_began_before() -> None:
    rows = Rows()
    standings = rows.standings()
    late: list[asyncio.Task[HostStanding]] = []

    def news() -> None:
        rows.down = True
        standings.happened(event("host"))
        late.append(asyncio.ensure_future(standings.standing("h")))

    rows.meanwhile.append(news)
    assert not (await standings.standing("h")).down
    assert (await late[0]).down


async def test_a_look_that_fails_is_not_everybodys_for_ever() -> None:
    rows = Rows()
    standings = rows.standings()

    def fail() -> None:
        raise OSError("Postgres is away")

    rows.meanwhile.append(fail)
    results = await asyncio.gather(*(standings.standing("h") for _ in range(2)), return_exceptions=True)
    assert [type(result) for result in results] == [OSError, OSError]
    assert not (await standings.standing("h")).down


async def test_a_new_epoch_is_news() -> None:
    rows = Rows()
    standings = rows.standings()
    await standings.standing("h")
    rows.epoch = 2
    standings.happened(event("epoch", epoch=2))
    assert (await standings.standing("h")).observe_only


async def test_what_was_read_while_news_came_is_not_kept() -> None:
    rows = Rows()
    standings = rows.standings()
    rows.meanwhile.append(lambda: standings.happened(event("host")))
    await standings.standing("h")
    rows.down = True
    assert (await standings.standing("h")).down


async def test_another_connection_may_have_another_log_behind_it() -> None:
    rows = Rows()
    standings = rows.standings()
    await standings.standing("h")
    rows.life, rows.down = 2, True
    assert (await standings.standing("h")).down


async def test_a_host_is_down_by_all_that_is_in_the_log_and_by_no_older_rows() -> None:
    rows = Rows(down=True)
    standings = rows.standings()
    assert (await standings.standing("host-1")).down
    assert await standings.is_down("host-1")
    rows.in_the_log.append(lambda: setattr(rows, "down", False))
    assert not await standings.is_down("host-1")
