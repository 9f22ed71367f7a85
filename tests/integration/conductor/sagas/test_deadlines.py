"""A host that never answers keeps nothing in between: the step's deadline ends it, whatever the step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import timedelta
from uuid import UUID

import pytest
import pytest_asyncio

from core.saga import SagaRun
from core.saga.state import SagaStatus
from core.testing.sagas import At, Moment, Plan, begun, held
from core.testing.servers import Cell
from tests.harness.fake_host import FakeHost
from tests.harness.instance_sagas import CreateStage, DeleteStage, create_and_delete

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Long enough for what does answer, on a busy machine.
DEADLINE = timedelta(seconds=6)
WAITS = [("bind_port", "port"), ("spawn", "domain")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stages(
    module_cell: Cell, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[CreateStage, DeleteStage]]:
    """As elsewhere, but every step is given a few seconds only."""
    async with create_and_delete(module_cell, tmp_path_factory.mktemp("plane"), deadline=DEADLINE) as both:
        yield both


@pytest.fixture(autouse=True)
def answering_again(stages: tuple[CreateStage, DeleteStage]) -> Iterator[None]:
    yield
    _answer(stages[0].hosts)


def _answer(hosts: Sequence[FakeHost]) -> None:
    for host in hosts:
        host.answer_again()


async def _unanswered(create: CreateStage, step: str, kind: str) -> UUID:
    """A create that is at a step, and its hosts, which say nothing from then on."""
    plan = Plan(hold=At(step, Moment.BEFORE))
    saga_id = await begun(create, plan)
    await held(plan)
    for host in create.hosts:
        host.holding[kind] = asyncio.Event()
    plan.go_on.set()
    return saga_id


async def _require_late(run: SagaRun, status: SagaStatus) -> None:
    assert run.status is status, (run.status, run.error)
    error = run.stuck.error if status is SagaStatus.STUCK and run.stuck is not None else run.error
    assert error is not None
    assert (error.reason, bool(error.host)) == ("DEADLINE_EXCEEDED", True)


@pytest.mark.parametrize(("step", "kind"), WAITS)
async def test_a_create_ends_in_error(create: CreateStage, step: str, kind: str) -> None:
    saga_id = await _unanswered(create, step, kind)
    run = await create.ended(saga_id)
    await _require_late(run, SagaStatus.UNWOUND)
    uid = run.target.rpartition("/")[2]
    instance = await create.plane.instance(uid)
    assert (instance.erred, instance.task_id, instance.host) == (True, "", "")
    _answer(create.hosts)
    await create.require_nothing_soon(uid)
    await create.require_sound()


@pytest.mark.parametrize("kind", ["port", "domain"])
async def test_an_undo_is_stuck_and_goes_on_when_the_host_answers(create: CreateStage, kind: str) -> None:
    for host in create.hosts:
        host.holding_removal[kind] = asyncio.Event()
    saga_id = await begun(create, Plan(fail=(At("spawn", Moment.AFTER),)))
    run = await create.ended(saga_id)
    await _require_late(run, SagaStatus.STUCK)
    assert run.stuck is not None and run.stuck.undoing
    _answer(create.hosts)
    await create.retry(saga_id)
    run = await create.ended(saga_id)
    assert run.status is SagaStatus.UNWOUND
    await create.require_clean(run)


@pytest.mark.parametrize("kind", ["port", "domain"])
async def test_a_delete_is_stuck_and_goes_on_when_the_host_answers(delete: DeleteStage, kind: str) -> None:
    uid = await delete.active()
    for host in delete.hosts:
        host.holding_removal[kind] = asyncio.Event()
    saga_id = UUID((await delete.prepared.delete(uid)).operation_id)
    await _require_late(await delete.ended(saga_id), SagaStatus.STUCK)
    _answer(delete.hosts)
    await delete.retry(saga_id)
    run = await delete.ended(saga_id)
    assert run.status is SagaStatus.COMPLETED
    await delete.require_done(run)
