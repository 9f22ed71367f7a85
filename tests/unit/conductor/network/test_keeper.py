"""When the network's keeper looks, and how much of the log the facts must have by then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
import pytest_asyncio

from cirra.network.v1 import events_pb2 as pb
from conductor.network import keeper as module
from conductor.network.keeper import NetworkKeeper
from core.errors import Unavailable
from core.eventlog.types import RecordedEvent


class Looks:
    """What the keeper waited for before each look; those of `behind` are not had in time."""

    def __init__(self) -> None:
        self.behind: set[int | None] = set()
        self._waits: asyncio.Queue[int | None] = asyncio.Queue()
        self._looks: asyncio.Queue[None] = asyncio.Queue()

    async def caught_up(self, position: int | None) -> None:
        self._waits.put_nowait(position)
        if position in self.behind:
            raise Unavailable("the facts are behind")

    async def any(self) -> bool:
        self._looks.put_nowait(None)
        return False

    async def wait(self) -> int | None:
        """The next one that was waited for."""
        async with asyncio.timeout(60):
            return await self._waits.get()

    async def look(self) -> int | None:
        """As `wait`, and that it looked then."""
        position = await self.wait()
        async with asyncio.timeout(60):
            await self._looks.get()
        return position


class OneHolder:
    @asynccontextmanager
    async def hold(self, *_: object) -> AsyncIterator[object]:
        yield SimpleNamespace(lost=asyncio.Event())


def event(position: int, message: type[Any] = pb.PortBindingDesired) -> RecordedEvent:
    return cast(RecordedEvent, SimpleNamespace(position=position, type=message.DESCRIPTOR.full_name))


@pytest.fixture
def looks() -> Looks:
    return Looks()


@pytest_asyncio.fixture
async def keeper(looks: Looks, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[NetworkKeeper]:
    """It runs, and is only woken by events."""
    monkeypatch.setattr(module, "LOOK_AT_LEAST_EVERY_S", 3600.0)
    parts: Any = (None, OneHolder(), looks, looks.caught_up)
    keeper = NetworkKeeper(*parts, tell=cast(Any, None), holder="k1")
    running = asyncio.create_task(keeper.run())
    yield keeper
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_it_begins_with_all_there_is(keeper: NetworkKeeper, looks: Looks) -> None:
    assert await looks.look() is None


async def test_it_waits_for_what_woke_it(keeper: NetworkKeeper, looks: Looks) -> None:
    await looks.look()
    keeper.happened(event(7))
    keeper.happened(event(9))
    keeper.happened(event(12, pb.PortCreated))
    assert await looks.look() == 9


async def test_what_comes_while_it_gathers_is_looked_at(
    keeper: NetworkKeeper, looks: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    await looks.look()
    gathering: asyncio.Queue[None] = asyncio.Queue()
    sleep = asyncio.sleep

    async def gather(seconds: float) -> None:
        gathering.put_nowait(None)
        await sleep(seconds)

    monkeypatch.setattr(module.asyncio, "sleep", gather)
    keeper.happened(event(7))
    async with asyncio.timeout(60):
        await gathering.get()
    keeper.happened(event(8))
    assert [await looks.look(), await looks.look()] == [7, 8]


async def test_facts_that_are_behind_are_not_looked_at(keeper: NetworkKeeper, looks: Looks) -> None:
    await looks.look()
    looks.behind.add(7)
    keeper.happened(event(7))
    assert await looks.wait() == 7
    keeper.happened(event(8))
    assert await looks.look() == 8


async def test_what_no_event_told_of_is_found(
    keeper: NetworkKeeper, looks: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    await looks.look()
    monkeypatch.setattr(module, "LOOK_AT_LEAST_EVERY_S", 0.01)
    keeper.happened(event(7))
    assert [await looks.look(), await looks.look()] == [7, None]
