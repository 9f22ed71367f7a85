"""A reader that comes while the first writer opens the store finds it whole."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from net_agent.specs.store import SpecStore


@pytest.mark.parametrize("round_", range(10))
def test_many_who_open_it_at_once(tmp_path: Path, round_: int) -> None:
    (tmp_path / "specs.db").touch()
    store, start = SpecStore(tmp_path, synced=False), threading.Barrier(8)
    found: list[object] = []

    def read() -> None:
        start.wait()
        try:
            found.append(store.load())
        except Exception as error:
            found.append(error)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[]] * 8
