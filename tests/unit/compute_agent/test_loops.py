"""The cache is tidied for ever, and never on a guess."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from compute_agent.instances import StateFolder
from compute_agent.loops import evict_images

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ID = "0197a000-0000-7000-8000-00000000aa01"


class Images:
    """Notes what it is asked to evict; the first time it finds a disk that it can't read."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[Path], timedelta, datetime]] = []
        self.twice = asyncio.Event()

    async def evict(self, folders: Iterable[Path], *, unused_for: timedelta, now: datetime) -> list[str]:
        self.asked.append((list(folders), unused_for, now))
        if len(self.asked) == 1:
            raise ValueError("not a qcow2 image")
        self.twice.set()
        return []


async def run(
    images: Any, state: StateFolder, until: asyncio.Event, timeout_s: float = 60.0, *, may_tidy: bool = True
) -> None:
    task = asyncio.create_task(
        evict_images(
            images,
            state,
            unused_for=timedelta(hours=2),
            interval_s=0.001,
            may_tidy=lambda: may_tidy,
            now=lambda: NOW,
        )
    )
    try:
        async with asyncio.timeout(timeout_s):
            await until.wait()
    finally:
        task.cancel()


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    (tmp_path / "host").mkdir()
    found = StateFolder(tmp_path / "state", tmp_path / "host")
    found.initialise()
    return found


async def test_it_goes_on_after_a_disk_that_can_t_be_read(state: StateFolder) -> None:
    state.instance(ID).create()
    images = Images()
    await run(images, state, images.twice)
    assert images.asked[:2] == [([state.instance(ID).path], timedelta(hours=2), NOW)] * 2


async def test_without_the_state_folder_nothing_is_evicted(state: StateFolder) -> None:
    state.path.rename(state.path.with_name("unmounted"))
    images = Images()
    with pytest.raises(TimeoutError):
        await run(images, state, images.twice, timeout_s=0.1)
    assert images.asked == []


async def test_on_an_observe_only_host_nothing_is_evicted(state: StateFolder) -> None:
    images = Images()
    with pytest.raises(TimeoutError):
        await run(images, state, images.twice, timeout_s=0.1, may_tidy=False)
    assert images.asked == []
