"""Sagas `instance-attach-interface` and `instance-detach-interface` pass what every saga passes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from core.testing.sagas import (
    At,
    Interposed,
    Moment,
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
from tests.harness.interface_sagas import INTERFACE_SAGAS, Stage, interface_plane

pytestmark = pytest.mark.asyncio(loop_scope="module")

SAGAS = INTERFACE_SAGAS
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


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stages(module_cell: Cell, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, Stage]]:
    async with interface_plane(module_cell, tmp_path_factory.mktemp("plane")) as stages:
        yield stages


def last(stage: Stage) -> At:
    """Everything has been done, and can still be undone."""
    return At(next(step.name for step in stage.kit.original.steps if step.pivot), Moment.AFTER)


@pytest.mark.parametrize(("name", "at"), POINTS)
async def test_fails(stages: dict[str, Stage], name: str, at: At) -> None:
    await fails(stages[name], at)


@pytest.mark.parametrize(("name", "undoing"), UNDOING)
async def test_an_undo_that_fails_is_stuck_and_can_be_retried(stages: dict[str, Stage], name: str, undoing: At) -> None:
    await fails_undoing(stages[name], last(stages[name]), undoing)


@pytest.mark.parametrize(("name", "at"), POINTS)
async def test_cancels(stages: dict[str, Stage], name: str, at: At) -> None:
    await cancels(stages[name], at)


@pytest.mark.parametrize(("name", "undoing"), UNDOING)
async def test_an_undo_that_fails_is_given_up(stages: dict[str, Stage], name: str, undoing: At) -> None:
    await resolves_undoing(stages[name], last(stages[name]), undoing)


@pytest.mark.parametrize(("name", "at"), FORWARD)
async def test_what_is_done_is_kept_when_it_is_given_up(stages: dict[str, Stage], name: str, at: At) -> None:
    await resolves(stages[name], at)


@pytest.mark.parametrize("name", NAMES)
async def test_repeats_each_do(stages: dict[str, Stage], name: str) -> None:
    await repeats_dos(stages[name])


@pytest.mark.parametrize("name", NAMES)
async def test_repeats_each_undo(stages: dict[str, Stage], name: str) -> None:
    await repeats_undos(stages[name], last(stages[name]))


@pytest.mark.parametrize("name", NAMES)
async def test_a_do_that_comes_after_its_undo_changes_nothing(stages: dict[str, Stage], name: str) -> None:
    await dos_after_undos(stages[name], last(stages[name]))


@pytest.mark.parametrize(("name", "undoing"), UNDOING)
async def test_a_do_that_comes_amid_the_undos_changes_nothing(stages: dict[str, Stage], name: str, undoing: At) -> None:
    await dos_amid_undos(stages[name], last(stages[name]), undoing)


async def test_crashes_at_each_step(module_cell: Cell, cell: Cell, tmp_path: Path) -> None:
    async with interface_plane(cell, tmp_path, conductors=1) as stages:
        for stage in stages.values():
            await crashes(stage, stage.kit.points())
            await crashes_undoing(stage, last(stage), stage.kit.points("undo"))
