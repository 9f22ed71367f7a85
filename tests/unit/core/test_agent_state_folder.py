"""The state folder's proof, as the agents of one host share it."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

from core.agent.state_folder import MARKER, StateFolder


def test_agents_that_start_at_once_agree(tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    agents = [StateFolder(tmp_path / "state", tmp_path / "host") for _ in range(8)]
    together = Barrier(len(agents))

    def start(folder: StateFolder) -> None:
        together.wait()
        folder.initialise()
        folder.require()

    with ThreadPoolExecutor(len(agents)) as pool:
        list(pool.map(start, agents))
    assert [path.name for path in (tmp_path / "state").iterdir()] == [MARKER]
    for agent in agents:
        agent.require()


async def test_who_watches_hears_of_loss_and_return(tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    folder = StateFolder(tmp_path / "state", tmp_path / "host")
    folder.initialise()
    changed: asyncio.Queue[bool] = asyncio.Queue()
    watching = asyncio.create_task(folder.watch(lambda: changed.put_nowait(folder.problem() is None), interval_s=0.01))
    async with asyncio.timeout(60):
        folder.path.rename(tmp_path / "away")
        assert await changed.get() is False
        (tmp_path / "away").rename(folder.path)
        assert await changed.get() is True
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert changed.empty()
