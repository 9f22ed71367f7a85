"""A control plane per module: two of each service, two hosts that take guests; tests are isolated by instance."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from core.testing.servers import Cell
from tests.harness.instance_sagas import CreateStage, DeleteStage, create_and_delete


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stages(
    module_cell: Cell, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[CreateStage, DeleteStage]]:
    """For the tests of a module: they don't meet, each has an instance of its own."""
    async with create_and_delete(module_cell, tmp_path_factory.mktemp("plane")) as both:
        yield both


@pytest.fixture
def create(stages: tuple[CreateStage, DeleteStage]) -> CreateStage:
    return stages[0]


@pytest.fixture
def delete(stages: tuple[CreateStage, DeleteStage]) -> DeleteStage:
    return stages[1]
