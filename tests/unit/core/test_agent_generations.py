"""The guard against late and repeated messages, and what a crash leaves of it."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cirra.agent.v1.desired_pb2 import DesiredObject
from core.agent.generations import TOMBSTONE_KEPT_S, GenerationStore
from core.errors import FailedPrecondition


def wish(generation: int, *, absent: bool = False, object_id: str = "a") -> DesiredObject:
    return DesiredObject(kind="domain", object_id=object_id, generation=generation, absent=absent)


async def act_on(store: GenerationStore, desired: DesiredObject) -> bool:
    if not store.accepts(desired):
        return False
    await store.record(desired)
    await store.settle(desired)
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
    again = GenerationStore(tmp_path)
    assert not again.accepts(wish(2))
    assert not again.accepts(wish(7, object_id="b"))
    assert again.is_established("domain", "a")
    assert not again.is_established("domain", "b")
    assert again.had_fresh_state_in("boot-1")
    assert not again.had_fresh_state_in("boot-2")
    assert (tmp_path / "generations.json").stat().st_mode & 0o777 == 0o600


async def test_a_crash_between_write_and_rename_leaves_the_old_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = GenerationStore(tmp_path)
    await act_on(store, wish(3))

    class Crash(BaseException):
        """Nothing that runs after the crash may tidy up."""

    written: list[str] = []

    def crash(source: str, target: Path) -> None:
        written.append(Path(source).read_text())
        os.link(source, tmp_path / ".generations.json.left-over")
        raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", crash)
        with pytest.raises(Crash):
            await store.record(wish(4))
    assert '"generation": 4' in written[0], "the crash came after the write"
    again = GenerationStore(tmp_path)
    assert again.generation("domain", "a") == 3
    assert await act_on(again, wish(4)), "the command comes again, and is not taken for done"
    assert os.listdir(tmp_path) == ["generations.json"]


async def test_a_write_that_failed_is_made_up_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = GenerationStore(tmp_path)

    def refuse(source: str, target: Path) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", refuse)
        with pytest.raises(OSError, match="no space"):
            await store.record(wish(4))
    assert await act_on(store, wish(4)), "the command is delivered again"
    assert GenerationStore(tmp_path).generation("domain", "a") == 4


async def test_a_damaged_file_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    for content in ("", "{", json.dumps({"format": 99, "boot_id": "", "objects": {}})):
        (tmp_path / "generations.json").write_text(content)
        with pytest.raises(FailedPrecondition) as refused:
            GenerationStore(tmp_path)
        assert refused.value.remedy


async def test_records_made_together_share_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replaced: list[Path] = []
    replace = os.replace

    def counted(source: str, target: Path) -> None:
        replaced.append(target)
        replace(source, target)

    monkeypatch.setattr(os, "replace", counted)
    store = GenerationStore(tmp_path)
    await asyncio.gather(*(store.record(wish(1, object_id=str(n))) for n in range(50)))
    assert len(replaced) <= 3
    assert len(GenerationStore(tmp_path)) == 50


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
