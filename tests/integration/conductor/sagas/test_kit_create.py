"""Saga `instance-create` passes what every saga passes."""

from __future__ import annotations

from pathlib import Path

import pytest

from conductor.compute.instance_create import INSTANCE_CREATE
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
    wakes_in_next_attempt,
)
from core.testing.servers import Cell
from tests.harness.instance_sagas import CreateStage, create_and_delete

SAGAS = (INSTANCE_CREATE,)
POINTS = Interposed(INSTANCE_CREATE).points()
UNDOING = Interposed(INSTANCE_CREATE).points("undo")
LAST = At("spawn", Moment.AFTER)  # everything has been done, and can still be undone
EARLY = At("claim_host", Moment.AFTER)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("at", POINTS, ids=str)
async def test_fails(create: CreateStage, at: At) -> None:
    await fails(create, at)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("undoing", UNDOING, ids=str)
async def test_an_undo_that_fails_is_stuck_and_can_be_retried(create: CreateStage, undoing: At) -> None:
    await fails_undoing(create, LAST, undoing)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("at", POINTS, ids=str)
async def test_cancels(create: CreateStage, at: At) -> None:
    await cancels(create, at)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("undoing", UNDOING, ids=str)
async def test_an_undo_that_fails_is_given_up(create: CreateStage, undoing: At) -> None:
    await resolves_undoing(create, LAST, undoing)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("at", [at for at in POINTS if not can_unwind(INSTANCE_CREATE, at)], ids=str)
async def test_a_guest_that_runs_is_kept_when_its_create_is_given_up(create: CreateStage, at: At) -> None:
    await resolves(create, at)


async def test_crashes_at_each_step(cell: Cell, tmp_path: Path) -> None:
    async with create_and_delete(cell, tmp_path, conductors=1) as (create, _):
        await crashes(create, POINTS)
        await crashes_undoing(create, LAST, UNDOING)


@pytest.mark.asyncio(loop_scope="module")
async def test_repeats_each_do(create: CreateStage) -> None:
    await repeats_dos(create)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("at", [EARLY, LAST], ids=str)
async def test_repeats_each_undo(create: CreateStage, at: At) -> None:
    await repeats_undos(create, at)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("at", [EARLY, LAST], ids=str)
async def test_a_do_that_comes_after_its_undo_makes_nothing(create: CreateStage, at: At) -> None:
    await dos_after_undos(create, at)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("undoing", [at for at in UNDOING if at.moment is Moment.AFTER], ids=str)
async def test_a_do_that_comes_amid_the_undos_leaves_nothing(create: CreateStage, undoing: At) -> None:
    await dos_amid_undos(create, LAST, undoing)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    "stands",
    [At("claim_host", Moment.BEFORE), EARLY, At("bind_port", Moment.AFTER), At("spawn", Moment.BEFORE), LAST],
    ids=str,
)
async def test_a_runner_that_wakes_in_the_next_attempt_changes_nothing(create: CreateStage, stands: At) -> None:
    await wakes_in_next_attempt(create, LAST, stands)
