"""Stopping and killing processes: they do stop, all of them, and always go on again."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from core.testing.faults import FaultFailed
from core.testing.faults.processes import kill, paused

# It and its child write the time into files, over and over.
_TICKING = """
import os, sys, time
name = "child" if os.fork() == 0 else "parent"
while True:
    with open(f"{sys.argv[1]}/{name}", "a") as file:
        file.write(".")
    time.sleep(0.002)
"""


class Ticking:
    def __init__(self, process: Process, folder: Path) -> None:
        self.process = process
        self._folder = folder

    @property
    def pid(self) -> int:
        return self.process.pid

    def ticks(self, name: str) -> int:
        path = self._folder / name
        return path.stat().st_size if path.exists() else 0

    async def stands(self, name: str) -> bool:
        """Whether it does not tick for a while."""
        before = self.ticks(name)
        await asyncio.sleep(0.3)
        return self.ticks(name) == before

    async def moves(self, name: str) -> bool:
        """Once it ticks; TimeoutError if it does not."""
        before = self.ticks(name)
        async with asyncio.timeout(60):
            while self.ticks(name) == before:  # noqa: ASYNC110 - files wake nobody
                await asyncio.sleep(0.005)
        return True


@pytest.fixture
async def ticking(tmp_path: Path) -> AsyncIterator[Ticking]:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _TICKING, str(tmp_path))
    running = Ticking(process, tmp_path)
    async with asyncio.timeout(60):
        while not (running.ticks("parent") and running.ticks("child")):  # noqa: ASYNC110 - files wake nobody
            await asyncio.sleep(0.01)
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children()]
    yield running
    for member in family:
        if member.is_running():
            member.kill()
    await process.wait()


@pytest.mark.parametrize(("tree", "child_moves"), [(True, False), (False, True)])
async def test_who_is_paused_stands_still_and_goes_on(ticking: Ticking, tree: bool, child_moves: bool) -> None:
    with paused(ticking.pid, tree=tree):
        assert await (ticking.moves("child") if child_moves else ticking.stands("child"))
        assert await ticking.stands("parent")
    assert await ticking.moves("parent")
    assert await ticking.moves("child")


async def test_it_goes_on_after_a_block_that_failed(ticking: Ticking) -> None:
    with pytest.raises(ValueError, match="of the test"), paused(ticking.pid):
        raise ValueError("of the test")
    assert await ticking.moves("parent")


@pytest.mark.parametrize("tree", [True, False])
async def test_who_is_killed_is_gone(ticking: Ticking, tree: bool) -> None:
    await kill(ticking.pid, tree=tree)
    assert await ticking.process.wait() == -9
    assert await (ticking.stands("child") if tree else ticking.moves("child"))


async def test_a_fault_to_a_process_that_has_ended_is_an_error(ticking: Ticking) -> None:
    await kill(ticking.pid)
    await ticking.process.wait()
    with pytest.raises(FaultFailed), paused(ticking.pid):
        raise AssertionError("nothing was paused")
    with pytest.raises(FaultFailed):
        await kill(ticking.pid)
