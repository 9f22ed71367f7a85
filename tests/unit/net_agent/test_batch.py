from __future__ import annotations

import asyncio

import pytest

from net_agent.specs.batch import Batch


class Runs:
    """What each run was given; `gate` holds them up."""

    def __init__(self) -> None:
        self.given: list[tuple[str, ...]] = []
        self.gate = asyncio.Event()
        self.batch: Batch[str, int] = Batch(self._run)

    async def _run(self, keys: tuple[str, ...]) -> int:
        self.given.append(keys)
        await self.gate.wait()
        if "bad" in keys:
            raise ValueError("bad")
        return len(self.given)

    async def begun(self, count: int) -> None:
        while len(self.given) < count:  # noqa: ASYNC110 — the event loop's next turn is what is waited for
            await asyncio.sleep(0)


async def test_those_that_come_while_a_run_is_under_way_share_the_next() -> None:
    runs = Runs()
    first = asyncio.create_task(runs.batch.ask(["a"]))
    await runs.begun(1)
    others = [asyncio.create_task(runs.batch.ask([name])) for name in ("b", "c", "b", "a")]
    await asyncio.sleep(0)
    runs.gate.set()
    assert await first == 1
    assert await asyncio.gather(*others) == [2, 2, 2, 2]
    assert runs.given == [("a",), ("c", "b", "a")]


async def test_an_error_is_of_those_that_it_concerns() -> None:
    runs = Runs()
    first = asyncio.create_task(runs.batch.ask(["a"]))
    await runs.begun(1)
    bad = asyncio.create_task(runs.batch.ask(["bad"]))
    await asyncio.sleep(0)
    runs.gate.set()
    assert await first == 1
    with pytest.raises(ValueError, match="bad"):
        await bad
    assert await runs.batch.ask(["c"]) == 3


async def test_who_leaves_does_not_end_the_run() -> None:
    runs = Runs()
    asked = asyncio.create_task(runs.batch.ask(["a"]))
    await runs.begun(1)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    idle = asyncio.create_task(runs.batch.idle())
    await asyncio.sleep(0)
    assert not idle.done()
    runs.gate.set()
    await idle
    assert runs.given == [("a",)]
