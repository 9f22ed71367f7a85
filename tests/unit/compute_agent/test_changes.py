"""News of guests is coalesced and not lost."""

from __future__ import annotations

import asyncio

from compute_agent.drivers.changes import Changes
from core.errors import Unavailable


async def everything() -> set[str]:
    return {"a", "b"}


async def test_what_is_noted_before_and_while_one_listens() -> None:
    changes = Changes(everything)
    changes.note("x")
    changes.note("x")
    told = aiter(changes)
    assert await anext(told) == "x"
    waiting = asyncio.ensure_future(anext(told))
    await asyncio.sleep(0)
    assert not waiting.done()
    changes.note("y")
    assert await waiting == "y"


async def test_after_a_gap_all_are_named() -> None:
    changes = Changes(everything)
    changes.note("z")
    changes.note_all()
    told = aiter(changes)
    assert [await anext(told) for _ in range(3)] == ["a", "b", "z"]


async def test_a_list_that_can_t_be_had_is_had_later() -> None:
    answers: list[set[str] | Exception] = [Unavailable("away"), {"a"}]

    async def list_all() -> set[str]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    changes = Changes(list_all)
    changes.note_all()
    changes.note("b")
    told = aiter(changes)
    assert await anext(told) == "b"
    changes.note_all()
    assert await anext(told) == "a"
