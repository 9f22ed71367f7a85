"""The sagas of an instance that is there pass what every saga passes: those of its power, and of its NICs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from core.testing.sagas import (
    At,
    Interposed,
    Moment,
    Stage,
    can_unwind,
    cancels,
    crashes,
    crashes_undoing,
    dos_after_undos,
    dos_amid_undos,
    fails,
    fails_undoing,
    repeats_dos,
    repeats_undos,
    resolves,
    resolves_undoing,
)
from core.testing.servers import Cell
from tests.harness.interface_sagas import INTERFACE_SAGAS, interface_kits, interface_stages
from tests.harness.power_sagas import POWER_SAGAS, power_kits, power_stages
from tests.harness.stages import interposed_plane

pytestmark = pytest.mark.asyncio(loop_scope="module")

SAGAS = (*(saga for saga, _, _ in POWER_SAGAS), *INTERFACE_SAGAS)
KITS = [Interposed(saga) for saga in SAGAS]
NAMES = [kit.original.name for kit in KITS]
POINTS = [pytest.param(kit.original.name, at, id=f"{kit.original.name} {at}") for kit in KITS for at in kit.points()]
UNDOING = [
    pytest.param(kit.original.name, at, id=f"{kit.original.name} {at}") for kit in KITS for at in kit.points("undo")
]
FORWARD = [
    pytest.param(kit.original.name, at, id=f"{kit.original.name} {at}")
    for kit in KITS
    for at in kit.points()
    if not can_unwind(kit.original, at)
]


Stages = Mapping[str, Stage]
"""Saga's name → its stage."""


@asynccontextmanager
async def all_stages(cell: Cell, folder: Path, *, conductors: int = 2) -> AsyncIterator[Stages]:
    power, interfaces = power_kits(), interface_kits()
    async with interposed_plane(cell, folder, [*power, *interfaces], conductors=conductors) as setting:
        yield {**power_stages(setting, power), **interface_stages(setting, interfaces)}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stages(module_cell: Cell, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stages]:
    async with all_stages(module_cell, tmp_path_factory.mktemp("plane")) as stages:
        yield stages


def last(stage: Stage) -> At:
    """Everything has been done, and can still be undone."""
    return At(next(step.name for step in stage.kit.original.steps if step.pivot), Moment.AFTER)


@pytest.mark.parametrize(("name", "at"), POINTS)
async def test_fails(stages: Stages, name: str, at: At) -> None:
    await fails(stages[name], at)


@pytest.mark.parametrize(("name", "undoing"), UNDOING)
async def test_an_undo_that_fails_is_stuck_and_can_be_retried(stages: Stages, name: str, undoing: At) -> None:
    await fails_undoing(stages[name], last(stages[name]), undoing)


@pytest.mark.parametrize(("name", "at"), POINTS)
async def test_cancels(stages: Stages, name: str, at: At) -> None:
    await cancels(stages[name], at)


@pytest.mark.parametrize(("name", "undoing"), UNDOING)
async def test_an_undo_that_fails_is_given_up(stages: Stages, name: str, undoing: At) -> None:
    await resolves_undoing(stages[name], last(stages[name]), undoing)


@pytest.mark.parametrize(("name", "at"), FORWARD)
async def test_what_is_done_is_kept_when_it_is_given_up(stages: Stages, name: str, at: At) -> None:
    await resolves(stages[name], at)


@pytest.mark.parametrize("name", NAMES)
async def test_repeats_each_do(stages: Stages, name: str) -> None:
    await repeats_dos(stages[name])


@pytest.mark.parametrize("name", NAMES)
async def test_repeats_each_undo(stages: Stages, name: str) -> None:
    await repeats_undos(stages[name], last(stages[name]))


@pytest.mark.parametrize("name", NAMES)
async def test_a_do_that_comes_after_its_undo_changes_nothing(stages: Stages, name: str) -> None:
    await dos_after_undos(stages[name], last(stages[name]))


@pytest.mark.parametrize(("name", "undoing"), UNDOING)
async def test_a_do_that_comes_amid_the_undos_changes_nothing(stages: Stages, name: str, undoing: At) -> None:
    await dos_amid_undos(stages[name], last(stages[name]), undoing)


async def test_crashes_at_each_step(module_cell: Cell, cell: Cell, tmp_path: Path) -> None:
    async with all_stages(cell, tmp_path, conductors=1) as stages:
        for stage in stages.values():
            await crashes(stage, stage.kit.points())
            await crashes_undoing(stage, last(stage), stage.kit.points("undo"))
