"""A delete comes while an instance is started, stopped or rebooted, wherever that stands: nothing is left of either."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from uuid import UUID

import pytest
import pytest_asyncio

from core.ids import last_segment
from core.saga import SagaRun
from core.saga.state import SagaStatus
from core.testing.sagas import At, Interposed, Moment, Plan, begun, can_cancel, held
from core.testing.servers import Cell
from tests.harness.control_plane import PATIENCE_S
from tests.harness.power_sagas import POWER_SAGAS, PowerStage, power_plane

pytestmark = pytest.mark.asyncio(loop_scope="module")

KITS = {saga.name: Interposed(saga) for saga, _, _ in POWER_SAGAS}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stages(module_cell: Cell, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, PowerStage]]:
    async with power_plane(module_cell, tmp_path_factory.mktemp("plane")) as stages:
        yield stages


@pytest.fixture(autouse=True)
def answering_again(stages: dict[str, PowerStage]) -> Iterator[None]:
    yield
    for stage in stages.values():
        for host in stage.hosts:
            host.answer_again()


async def _begun(stage: PowerStage, plan: Plan) -> tuple[str, UUID]:
    """The uid of an instance whose task stands where the plan holds it, and the task's saga."""
    saga_id = await begun(stage, plan)
    await held(plan)
    run = await stage.plane.repository.load(SagaRun, saga_id)
    return last_segment(run.target), saga_id


async def _require_deleted(stage: PowerStage, uid: str, saga_id: UUID, deletion: str, expected: SagaStatus) -> None:
    deleted = await stage.ended(UUID(deletion))
    assert deleted.status is SagaStatus.COMPLETED, (deleted.status, deleted.error)
    assert (await stage.ended(saga_id)).status is expected
    await stage.require_deleted(uid)
    await stage.require_sound()


@pytest.mark.parametrize(
    ("name", "at"),
    [pytest.param(name, at, id=f"{name} {at}") for name, kit in KITS.items() for at in kit.points()],
)
async def test_between_effects(stages: dict[str, PowerStage], name: str, at: At) -> None:
    stage, plan = stages[name], Plan(hold=at)
    uid, saga_id = await _begun(stage, plan)
    deletion = (await stage.prepared.delete(uid)).operation_id
    expected = SagaStatus.UNWOUND
    if not can_cancel(stage.kit.original, at):  # it is waited for
        plan.go_on.set()
        expected = SagaStatus.COMPLETED
    await _require_deleted(stage, uid, saga_id, deletion, expected)


@pytest.mark.parametrize(
    ("name", "at"),
    [pytest.param(name, at, id=f"{name} {at}") for name, kit in KITS.items() for at in kit.points("undo")],
)
async def test_while_it_is_unwound(stages: dict[str, PowerStage], name: str, at: At) -> None:
    stage = stages[name]
    plan = Plan(fail=(At(stage.kit.original.steps[1].name, Moment.AFTER),), hold=at)
    uid, saga_id = await _begun(stage, plan)
    deletion = (await stage.prepared.delete(uid)).operation_id
    plan.go_on.set()
    await _require_deleted(stage, uid, saga_id, deletion, SagaStatus.UNWOUND)


@pytest.mark.parametrize("name", KITS)
async def test_while_a_host_is_at_work(stages: dict[str, PowerStage], name: str) -> None:
    stage = stages[name]
    plan = Plan(hold=At(stage.kit.original.steps[1].name, Moment.BEFORE))
    uid, saga_id = await _begun(stage, plan)
    for host in stage.hosts:
        host.told.clear()
        host.holding["domain"] = asyncio.Event()
    plan.go_on.set()
    async with asyncio.timeout(PATIENCE_S):
        while uid not in {desired.object_id for host in stage.hosts for desired in host.told}:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    deletion = (await stage.prepared.delete(uid)).operation_id
    await stage.ended(saga_id)  # giving up waits for no host; had one answered before, there would be no giving up
    for host in stage.hosts:
        host.answer_again()
    await _require_deleted(stage, uid, saga_id, deletion, SagaStatus.UNWOUND)
