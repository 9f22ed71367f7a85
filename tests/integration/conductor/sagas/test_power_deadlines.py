"""A host that never answers keeps no start, stop or reboot under way: its deadline gives it up, and says why."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import pytest
import pytest_asyncio

from core.ids import last_segment
from core.saga.state import SagaStatus
from core.testing.sagas import At, Moment, Plan, begun, held
from core.testing.servers import Cell
from tests.harness.power_sagas import POWER_SAGAS, PowerStage, power_plane

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Long enough for what does answer, on a busy machine.
DEADLINE = timedelta(seconds=6)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stages(module_cell: Cell, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, PowerStage]]:
    async with power_plane(module_cell, tmp_path_factory.mktemp("plane"), deadline=DEADLINE) as stages:
        yield stages


@pytest.fixture(autouse=True)
def answering_again(stages: dict[str, PowerStage]) -> Iterator[None]:
    yield
    for stage in stages.values():
        for host in stage.hosts:
            host.answer_again()


@pytest.mark.parametrize("name", [saga.name for saga, _, _ in POWER_SAGAS])
async def test_it_is_given_up_and_the_instance_is_as_before(stages: dict[str, PowerStage], name: str) -> None:
    stage = stages[name]
    plan = Plan(hold=At(stage.kit.original.steps[1].name, Moment.BEFORE))
    saga_id = await begun(stage, plan)
    await held(plan)
    for host in stage.hosts:
        host.holding["domain"] = asyncio.Event()
    plan.go_on.set()
    run = await stage.ended(saga_id)
    assert (run.status, run.error is not None) == (SagaStatus.UNWOUND, True)
    assert run.error is not None
    assert (run.error.reason, bool(run.error.host)) == ("DEADLINE_EXCEEDED", True)
    instance = await stage.plane.instance(last_segment(run.target))
    assert (instance.task_id, instance.erred) == ("", False)
    for host in stage.hosts:
        host.answer_again()
    await stage.require_clean(run)
    await stage.require_sound()
