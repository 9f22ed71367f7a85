from __future__ import annotations

from pathlib import Path

import pytest

from block_agent.inventory import inventory
from block_agent.pools import FileBackend, PoolUsage
from block_agent.settings import BlockAgentSettings
from core.errors import FailedPrecondition


class Fixed:
    def usage(self) -> PoolUsage:
        return PoolUsage("ssd", "file", 100, 40)


def test_the_inventory_lists_the_pools() -> None:
    pools = inventory([Fixed()]).storage_pools
    assert [(pool.name, pool.backend, pool.capacity_gib, pool.free_gib) for pool in pools] == [("ssd", "file", 100, 40)]


def test_a_folders_room_is_that_of_its_file_system(tmp_path: Path) -> None:
    usage = FileBackend("file", tmp_path).usage()
    assert usage.capacity_gib > 0 and 0 <= usage.free_gib <= usage.capacity_gib


def test_a_folder_that_is_missing_is_no_empty_pool(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition) as missing:
        FileBackend("file", tmp_path / "not-mounted").usage()
    assert missing.value.reason == "POOL_MISSING" and missing.value.remedy
    assert not (tmp_path / "not-mounted").exists()


def test_the_default_pool_is_below_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIRRA_STATE_DIRECTORY", "/srv/cirra")
    assert BlockAgentSettings().pool_folder == Path("/srv/cirra/volumes")
    monkeypatch.setenv("CIRRA_POOL_DIRECTORY", "/srv/pool")
    assert BlockAgentSettings().pool_folder == Path("/srv/pool")
