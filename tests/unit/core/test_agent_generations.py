"""The guard against late and repeated messages, and what a crash leaves of it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cirra.agent.v1.desired_pb2 import DesiredObject
from core.agent.generations import TOMBSTONE_KEPT_S, GenerationStore


def wish(generation: int, *, absent: bool = False, object_id: str = "a") -> DesiredObject:
    return DesiredObject(kind="domain", object_id=object_id, generation=generation, absent=absent)


async def act_on(store: GenerationStore, desired: DesiredObject) -> bool:
    if not store.accepts(desired):
        return False
    await store.record(desired)
    store.settle(desired)
    return True


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_an_older_wish_is_refused_a_repeated_one_is_not(tmp_path: Path) -> None:
    store = GenerationStore(tmp_path)
    assert await act_on(store, wish(3))
    assert not await act_on(store, wish(2))
    assert not await act_on(store, wish(2, absent=True))
    assert await act_on(store, wish(3))
    assert await act_on(store, wish(4))


async def test_a_tombstone_refuses_the_do_that_comes_after_its_undo(tmp_path: Path) -> None:
    store = GenerationStore(tmp_path)
    assert await act_on(store, wish(2, absent=True)), "absent is success, also for what never was"
    assert not await act_on(store, wish(1))
    assert not await act_on(store, wish(2))
    assert await act_on(store, wish(3)), "a newer wish brings it back"


async def test_a_removal_wins_a_tie(tmp_path: Path) -> None:
    store = GenerationStore(tmp_path)
    assert await act_on(store, wish(2))
    assert await act_on(store, wish(2, absent=True))
    assert not await act_on(store, wish(2))


async def test_what_was_learnt_refuses_older_wishes_before_it_is_acted_on(tmp_path: Path) -> None:
    store = GenerationStore(tmp_path)
    await act_on(store, wish(2))
    store.learn(wish(5))
    assert not store.accepts(wish(4))
    assert store.accepts(wish(5))


async def test_it_is_the_same_after_a_restart(tmp_path: Path) -> None:
    store = GenerationStore(tmp_path)
    await act_on(store, wish(3))
    await act_on(store, wish(7, object_id="b", absent=True))
    await store.note_fresh_state("boot-1")
    await store.close()
    again = GenerationStore(tmp_path)
    assert not again.accepts(wish(2))
    assert not again.accepts(wish(7, object_id="b"))
    assert again.is_established("domain", "a")
    assert not again.is_established("domain", "b")
    assert again.had_fresh_state_in("boot-1")
    assert not again.had_fresh_state_in("boot-2")
    assert {os.stat(tmp_path / name).st_mode & 0o777 for name in os.listdir(tmp_path)} == {0o600}


async def test_tombstones_are_kept_until_confirmed_and_old(tmp_path: Path) -> None:
    clock = Clock()
    store = GenerationStore(tmp_path, now=clock)
    await act_on(store, wish(1, object_id="gone", absent=True))
    await act_on(store, wish(1, object_id="here"))
    gone = ("domain", "gone")
    clock.now += TOMBSTONE_KEPT_S + 1
    assert await store.prune({gone}) == [], "the conductor still lists it: it has not heard"
    assert await store.prune(set()) == [gone]
    assert not GenerationStore(tmp_path).knows(*gone)
    assert GenerationStore(tmp_path).knows("domain", "here")
    await act_on(store, wish(2, object_id="gone", absent=True))
    assert await store.prune(set()) == [], "a delayed do may still be under way"


@settings(max_examples=50)  # each has a store of its own, on disk
@given(wishes=st.lists(st.tuples(st.integers(1, 4), st.booleans()), min_size=1, max_size=8))
def test_in_whatever_order_wishes_come_the_newest_is_the_last_acted_on(
    tmp_path_factory: pytest.TempPathFactory, wishes: list[tuple[int, bool]]
) -> None:
    async def deliver() -> tuple[int, bool]:
        store = GenerationStore(tmp_path_factory.mktemp("store"))
        last = (0, False)
        for generation, absent in wishes:
            if await act_on(store, wish(generation, absent=absent)):
                last = (generation, absent)
        return last

    assert asyncio.run(deliver()) == max(wishes)
