"""Saga `instance-delete` passes what every saga passes. It only goes forward: it has nothing to undo."""

from __future__ import annotations

from pathlib import Path

import pytest

from conductor.compute.instance_delete import INSTANCE_DELETE
from core.testing.sagas import At, Interposed, Moment, cancels, crashes, fails, repeats_dos, resolves
from core.testing.servers import Cell
from tests.harness.instance_sagas import DeleteStage, create_and_delete

SAGAS = (INSTANCE_DELETE,)
POINTS = Interposed(INSTANCE_DELETE).points()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("at", POINTS, ids=str)
async def test_fails(delete: DeleteStage, at: At) -> None:
    await fails(delete, at)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("at", POINTS, ids=str)
async def test_is_deleted_also_when_it_is_given_up(delete: DeleteStage, at: At) -> None:
    await resolves(delete, at)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("at", [at for at in POINTS if at.moment is Moment.BEFORE], ids=str)
async def test_a_cancel_is_refused(delete: DeleteStage, at: At) -> None:
    await cancels(delete, at)


async def test_crashes_at_each_step(cell: Cell, tmp_path: Path) -> None:
    async with create_and_delete(cell, tmp_path, conductors=1) as (_, delete):
        await crashes(delete, POINTS)


@pytest.mark.asyncio(loop_scope="module")
async def test_repeats_each_do(delete: DeleteStage) -> None:
    await repeats_dos(delete)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_do_that_comes_after_the_end_makes_nothing(delete: DeleteStage) -> None:
    saga_id = await delete.begin()
    run = await delete.ended(saga_id)
    for effect in list(delete.kit.effects[saga_id]):
        await effect.again()
        await delete.require_done(run)
    await delete.require_sound()
