"""A hop that hangs, or breaks, is unknown, and keeps no other from being told."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from net_agent.diagnosis.finding import Finding, State, broken, ok
from net_agent.diagnosis.ground import Ground
from net_agent.diagnosis.path import GuestPath, Targets, Wish
from net_agent.diagnosis.table import HOPS, Hop
from net_agent.diagnosis.walk import walk


def path() -> GuestPath:
    """Whose hops here look at nothing of a host."""
    ground = cast(Ground, SimpleNamespace(port=SimpleNamespace(port_id="p1")))
    return GuestPath(ground, Targets(), Wish())


async def test_each_for_itself_and_told_in_order() -> None:
    async def right(path: GuestPath) -> Finding:
        await asyncio.sleep(0.01)
        return ok("it is there")

    async def hangs(path: GuestPath) -> Finding:
        await asyncio.Event().wait()
        raise AssertionError

    async def raises(path: GuestPath) -> Finding:
        raise KeyError("a bug")

    async def wrong(path: GuestPath) -> Finding:
        return broken("GONE", "it is gone", "bring it back")

    checks = (right, hangs, raises, wrong)
    hops = [Hop(check.__name__, "", check, limit_s=0.05) for check in checks]
    found = await walk(path(), hops)
    assert [hop.name for hop, _ in found] == ["right", "hangs", "raises", "wrong"]
    assert [(finding.state, finding.reason) for _, finding in found] == [
        (State.OK, ""),
        (State.UNKNOWN, "TIMED_OUT"),
        (State.UNKNOWN, "NOT_SEEN"),
        (State.BROKEN, "GONE"),
    ]


async def test_what_several_want_to_know_is_asked_once_and_ends_with_the_walk() -> None:
    asked: list[asyncio.Task[Any] | None] = []

    async def answer() -> str:
        asked.append(asyncio.current_task())
        await asyncio.sleep(0.01)
        return "yes"

    async def never() -> str:
        asked.append(asyncio.current_task())
        await asyncio.Event().wait()
        raise AssertionError

    async def wants(path: GuestPath) -> Finding:
        return ok(await path.once("answer", answer))

    async def waits(path: GuestPath) -> Finding:
        return ok(await path.once("never", never))

    hops = [Hop("a", "", wants), Hop("b", "", wants), Hop("c", "", waits, limit_s=0.05)]
    found = await walk(path(), hops)
    assert [finding.observed for _, finding in found[:2]] == ["yes", "yes"]
    assert len(asked) == 2 and all(task is not None and task.done() for task in asked)


def test_the_table_has_each_hop_once() -> None:
    names = [hop.name for hop in HOPS]
    assert len(names) == len(set(names))
    assert all(hop.title for hop in HOPS)
