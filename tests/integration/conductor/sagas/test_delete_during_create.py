"""A delete comes while a create is under way, wherever that stands: nothing is left, of either."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from uuid import UUID

import pytest

from cirra.agent.v1 import desired_pb2 as agent
from conductor.compute.instance_create import INSTANCE_CREATE
from core.saga.state import SagaStatus
from core.testing.sagas import At, Interposed, Moment, Plan, held
from tests.harness.control_plane import PATIENCE_S
from tests.harness.instance_sagas import CreateStage, DeleteStage

pytestmark = pytest.mark.asyncio(loop_scope="module")

KIT = Interposed(INSTANCE_CREATE)


async def _accepted(create: CreateStage, plan: Plan) -> tuple[str, str]:
    """The uid of an instance whose create stands where the plan holds it, and the create's saga."""
    create.kit.next_plan = plan
    accepted = await create.prepared.create()
    await held(plan)
    return accepted.uid, accepted.operation_id


async def _require_deleted(
    create: CreateStage, delete: DeleteStage, creation: str, deletion: str, expected: SagaStatus
) -> None:
    run = await delete.ended(UUID(deletion))
    assert run.status is SagaStatus.COMPLETED, (run.status, run.error)
    assert (await create.ended(UUID(creation))).status is expected
    await delete.require_done(run)
    await delete.require_sound()


@pytest.mark.parametrize("at", KIT.points(), ids=str)
async def test_between_effects(create: CreateStage, delete: DeleteStage, at: At) -> None:
    plan = Plan(hold=at)
    uid, creation = await _accepted(create, plan)
    deletion = (await delete.prepared.delete(uid)).operation_id
    await _require_deleted(create, delete, creation, deletion, SagaStatus.UNWOUND)


@pytest.mark.parametrize("at", KIT.points("undo"), ids=str)
async def test_while_it_is_unwound(create: CreateStage, delete: DeleteStage, at: At) -> None:
    plan = Plan(fail=(At("spawn", Moment.AFTER),), hold=at)
    uid, creation = await _accepted(create, plan)
    deletion = (await delete.prepared.delete(uid)).operation_id
    plan.go_on.set()
    await _require_deleted(create, delete, creation, deletion, SagaStatus.UNWOUND)


@pytest.mark.parametrize(("step", "kind"), [("bind_port", "port"), ("spawn", "domain")])
async def test_while_a_host_is_at_work(create: CreateStage, delete: DeleteStage, step: str, kind: str) -> None:
    plan = Plan(hold=At(step, Moment.BEFORE))
    uid, creation = await _accepted(create, plan)
    at_work = asyncio.Event()
    for host in create.hosts:
        host.told.clear()
        host.holding[kind] = at_work
    plan.go_on.set()

    def told() -> bool:
        return any(each.kind == kind and _is_about(uid, each) for host in create.hosts for each in host.told)

    await _until(told)
    deletion = (await delete.prepared.delete(uid)).operation_id
    await create.ended(UUID(creation))  # giving up waits for no host; one that is ready first brings it past its pivot
    at_work.set()
    for host in create.hosts:
        host.holding.clear()
    await _require_deleted(create, delete, creation, deletion, SagaStatus.UNWOUND)


def _is_about(uid: str, desired: agent.DesiredObject) -> bool:
    return uid in (desired.object_id, desired.port.instance_id)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.02)
