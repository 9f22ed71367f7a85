"""Waiting for a position of the view, which the tail may not tell of by itself."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from placement.hosts.live_view import LiveView


class QuietTail:
    """Tells that the log is at `head` once it is asked to look."""

    def __init__(self, head: int) -> None:
        self.head = head
        self._asked = asyncio.Event()

    async def next(self) -> list[Any]:
        await self._asked.wait()
        self._asked.clear()
        return [SimpleNamespace(type="cirra.network.v1.PortCreated", position=self.head)]

    def look(self) -> None:
        self._asked.set()


async def test_who_waits_has_the_tail_look() -> None:
    view, tail = LiveView(), QuietTail(7)
    following = asyncio.create_task(view.follow(tail))
    await asyncio.sleep(0)
    assert await view.wait_for(7, timeout_s=60.0)
    assert view.position == 7
    tail.head = 9
    assert await view.wait_for(8, timeout_s=60.0)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_what_the_view_has_is_not_waited_for() -> None:
    assert await LiveView().wait_for(0, timeout_s=0.0)
