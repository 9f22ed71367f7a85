"""A thread for calls that are short."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from core.agent.hand import Hand


async def test_what_it_returns_or_raises_is_the_answer() -> None:
    hand = Hand("test")
    assert await hand.do(int, "7", base=8) == 7
    with pytest.raises(ValueError, match="invalid literal"):
        await hand.do(int, "x")
    assert await hand.do(threading.get_ident) != threading.get_ident()


async def test_one_after_the_other_in_the_order_of_asking() -> None:
    hand, gate, done = Hand("test"), threading.Event(), list[int]()
    held = hand.do(gate.wait)
    others = [hand.do(done.append, number) for number in range(20)]
    assert not done
    gate.set()
    await asyncio.gather(held, *others)
    assert done == list(range(20))


async def test_who_is_cancelled_keeps_nothing_from_being_done() -> None:
    hand, gate, done, errors = Hand("test"), threading.Event(), list[str](), list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context))
    hand.do(gate.wait)
    given_up = hand.do(done.append, "given up")
    given_up.cancel()
    after = hand.do(done.append, "after")
    gate.set()
    await after
    assert done == ["given up", "after"]
    assert not errors


async def test_its_thread_ends_with_it() -> None:
    """Also when what it did last is all that keeps it."""

    def own_thread(hand: Hand) -> threading.Thread:
        return threading.current_thread()

    hand = Hand("test")
    thread = await hand.do(own_thread, hand)
    del hand
    gc.collect()
    await asyncio.to_thread(thread.join, 60)
    assert not thread.is_alive()


def test_an_answer_that_comes_after_the_loop_is_lost_and_the_next_one_is_not() -> None:
    gate = threading.Event()

    async def ask() -> Hand:
        hand = Hand("test")
        hand.do(gate.wait)
        return hand

    async def ask_again(hand: Hand) -> str:
        gate.set()
        return await hand.do(str, "there")

    assert asyncio.run(ask_again(asyncio.run(ask()))) == "there"
