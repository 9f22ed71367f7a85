from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from core.pki.authority import Authority
from core.testing.invariants import Invariant
from core.testing.servers import Cell
from tests.integration.api_gateway.world import Gateway, World, make_world


@pytest.fixture
async def world(cell: Cell, authority: Authority, tmp_path: Path) -> AsyncIterator[World]:
    async with make_world(cell, authority, tmp_path) as made:
        yield made


@pytest.fixture
async def gateway(world: World) -> AsyncIterator[Gateway]:
    async with world.gateway() as running:
        yield running


@pytest.fixture
def invariants() -> frozenset[Invariant]:
    """The conductor of these tests is a fake: it appends what it is told, without constraint rows."""
    return frozenset({Invariant.LOG, Invariant.STREAM, Invariant.READ_MODEL, Invariant.SAGA})
