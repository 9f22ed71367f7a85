from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from metadata import together
from metadata.together import Together


class Source:
    """Numbers and their squares; each look waits for `go`."""

    def __init__(self) -> None:
        self.looks: list[Sequence[int]] = []
        self.go = asyncio.Event()
        self.error: Exception | None = None

    async def look(self, keys: Sequence[int]) -> Mapping[int, int]:
        self.looks.append(keys)
        await self.go.wait()
        if self.error is not None:
            raise self.error
        return {key: key * key for key in keys if key >= 0}

    async def begun(self, looks: int) -> None:
        while len(self.looks) < looks:  # noqa: ASYNC110 - a turn of the loop is all it takes
            await asyncio.sleep(0)


async def test_what_is_asked_for_together_is_looked_for_once() -> None:
    source = Source()
    source.go.set()
    squares = Together(source.look)
    assert await asyncio.gather(*(squares.get(key) for key in (1, 2, 2, -1))) == [1, 4, 4, None]
    assert source.looks == [(1, 2, -1)]
    assert await squares.get(3) == 9


async def test_who_asks_during_a_look_gets_the_next_one() -> None:
    """Also for what that look is about: it may have been read before it changed."""
    source = Source()
    squares = Together(source.look)
    first = asyncio.create_task(squares.get(1))
    await source.begun(1)
    later = [asyncio.create_task(squares.get(key)) for key in (1, 2)]
    await asyncio.sleep(0)
    assert source.looks == [(1,)]
    source.go.set()
    assert (await first, [await each for each in later]) == (1, [1, 4])
    assert source.looks == [(1,), (1, 2)]


async def test_a_look_that_fails_fails_those_who_wait_for_it() -> None:
    source = Source()
    squares = Together(source.look)
    source.error = OSError("away")
    source.go.set()
    failed = await asyncio.gather(squares.get(1), squares.get(2), return_exceptions=True)
    assert failed == [source.error, source.error]
    source.error = None
    assert await squares.get(1) == 1


async def test_who_goes_takes_nothing_from_the_others() -> None:
    source = Source()
    squares = Together(source.look)
    going, staying = (asyncio.create_task(squares.get(1)) for _ in range(2))
    await source.begun(1)
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    source.go.set()
    assert await staying == 1


async def test_one_look_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "MOST", 2)
    source = Source()
    source.go.set()
    squares = Together(source.look)
    assert await asyncio.gather(*map(squares.get, range(5))) == [0, 1, 4, 9, 16]
    assert source.looks == [(0, 1), (2, 3), (4,)]
