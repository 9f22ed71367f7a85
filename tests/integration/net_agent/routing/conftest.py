from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.net_agent.routing.world import World, a_world


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[World]:
    """A world with one host."""
    async with a_world(tmp_path, 1) as world:
        yield world


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[World]:
    """A world with two hosts."""
    async with a_world(tmp_path, 2) as world:
        yield world
