"""Saga `instance-create` passes what every saga passes."""

from __future__ import annotations

from pathlib import Path

import pytest

from conductor.compute.instance_create import INSTANCE_CREATE
from core.testing.sagas import (
    At,
    Interposed,
    Moment,
    crashes,
    dos_after_undos,
    fails,
    repeats_dos,
    repeats_undos,
    wakes_in_next_attempt,
)
from core.testing.servers import Cell
from tests.harness.instance_sagas import CreateStage, interposed_plane

POINTS = Interposed(INSTANCE_CREATE).points()
BEFORE_PIVOT = [At(step, Moment.AFTER) for step in ("accept", "claim_host", "bind_port", "build", "start")]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("at", POINTS, ids=str)
async def test_fails(create: CreateStage, at: At) -> None:
    await fails(create, at)


async def test_crashes_at_each_step(cell: Cell, tmp_path: Path) -> None:
    async with interposed_plane(cell, tmp_path, conductors=1) as (create, _):
        await crashes(create, POINTS)


@pytest.mark.asyncio(loop_scope="module")
async def test_repeats_each_do(create: CreateStage) -> None:
    await repeats_dos(create)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("at", BEFORE_PIVOT, ids=str)
async def test_repeats_each_undo(create: CreateStage, at: At) -> None:
    await repeats_undos(create, at)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("at", BEFORE_PIVOT, ids=str)
async def test_a_do_that_comes_after_its_undo_makes_nothing(create: CreateStage, at: At) -> None:
    await dos_after_undos(create, at)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("stands", [At("claim_host", Moment.BEFORE), *BEFORE_PIVOT[1:]], ids=str)
async def test_a_runner_that_wakes_in_the_next_attempt_changes_nothing(create: CreateStage, stands: At) -> None:
    await wakes_in_next_attempt(create, At("start", Moment.AFTER), stands)
