"""Creates that an older conductor has begun, whose table had `build` and `start` where there is `spawn` now."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from cirra.agent.v1 import desired_pb2 as agent
from conductor.compute.domain import domain_wish
from conductor.compute.instance import Instance
from conductor.compute.instance_create import INSTANCE_CREATE, Context, remove_domain
from conductor.compute.steps import domain_told, specified, turn_of
from core.saga import Step, Together
from core.testing.sagas import At, Interposed, Moment, crashes, crashes_undoing
from core.testing.servers import Cell
from tests.harness.instance_sagas import CreateStage
from tests.harness.stages import in_place, interposed_plane


async def _wish(ctx: Context, power: agent.DesiredPower.ValueType, *, create: bool) -> tuple[Instance]:
    instance, spec = await specified(ctx, power)
    instance.desire_domain(turn_of(ctx), domain_wish(instance.host, spec, create=create))
    return (instance,)


async def wish_off(ctx: Context) -> tuple[Instance]:
    return await _wish(ctx, agent.DESIRED_POWER_OFF, create=True)


async def wish_on(ctx: Context) -> tuple[Instance]:
    return await _wish(ctx, agent.DESIRED_POWER_ON, create=False)


async def build(ctx: Context) -> Together:
    return (await domain_told(ctx, wish_off, lambda facts: facts.state == agent.DOMAIN_STATE_SHUTOFF)).together


async def start(ctx: Context) -> Together:
    return (await domain_told(ctx, wish_on, lambda facts: facts.state == agent.DOMAIN_STATE_RUNNING)).together


AT_SPAWN = INSTANCE_CREATE.position("spawn")
OLDER = replace(
    INSTANCE_CREATE,
    steps=(
        *INSTANCE_CREATE.steps[:AT_SPAWN],
        Step(name="build", opening=wish_off, do=build, undo=remove_domain, beside="bind_port"),
        Step(name="start", opening=wish_on, do=start, no_undo="build's undo removes the domain", pivot=True),
        *INSTANCE_CREATE.steps[AT_SPAWN + 1 :],
    ),
)
POINTS = [at for at in Interposed(OLDER).points() if at.step in ("bind_port", "build", "start", "activate")]
UNDOING = [at for at in Interposed(OLDER).points("undo") if at.step in ("build", "bind_port")]


class UpgradedStage(CreateStage):
    """The next life of its conductor is of this version."""

    async def crash_runner(self) -> None:
        with in_place(INSTANCE_CREATE):
            await super().crash_runner()


@pytest.fixture
async def create(cell: Cell, tmp_path: Path) -> AsyncIterator[CreateStage]:
    kit = Interposed(OLDER)
    async with interposed_plane(cell, tmp_path, [kit], conductors=1) as setting:
        yield UpgradedStage(setting, kit)


async def test_they_are_completed(create: CreateStage) -> None:
    await crashes(create, POINTS)


async def test_they_are_undone(create: CreateStage) -> None:
    await crashes_undoing(create, At("start", Moment.AFTER), UNDOING)
