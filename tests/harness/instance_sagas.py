"""Sagas `instance-create` and `instance-delete` on their stages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from conductor.compute.instance_create import INSTANCE_CREATE
from conductor.compute.instance_delete import INSTANCE_DELETE
from core.saga import SagaRun
from core.saga.engine import CANCELLED
from core.saga.state import SagaStatus
from core.testing.sagas import MADE_TO_FAIL, Interposed
from core.testing.servers import Cell
from tests.harness.stages import InstanceStage, hurried, interposed_plane, uid_of


class CreateStage(InstanceStage):
    async def begin(self) -> UUID:
        return UUID((await self.prepared.create()).operation_id)

    async def require_done(self, run: SagaRun) -> None:
        await self.require_active(uid_of(run))

    async def require_clean(self, run: SagaRun) -> None:
        await self.require_nothing(uid_of(run))
        instance = await self.plane.instance(uid_of(run))
        assert not instance.active
        if not instance.deleted:
            assert run.error is not None
            assert (instance.erred, run.error.reason in (MADE_TO_FAIL, CANCELLED)) == (True, True)

    async def require_abandoned(self, run: SagaRun) -> None:
        """In ERROR, unless all was done. Past the pivot it keeps its guest, and can be deleted as ever."""
        uid = uid_of(run)
        instance = await self.plane.instance(uid)
        assert (instance.erred, instance.task_id) == (not instance.active, "")
        if run.error is None:
            assert [host.name for host in self.hosts if uid in host.domains] == [instance.host]
        else:
            await self.require_nothing_soon(uid)
        deleted = await self.plane.ended((await self.prepared.delete(uid)).operation_id)
        assert deleted.status is SagaStatus.COMPLETED, (deleted.status, deleted.error)
        await self.require_nothing(uid)


class DeleteStage(InstanceStage):
    async def begin(self) -> UUID:
        uid = await self.active()
        return UUID((await self.prepared.delete(uid)).operation_id)

    async def require_done(self, run: SagaRun) -> None:
        assert (await self.plane.instance(uid_of(run))).deleted
        await self.require_nothing(uid_of(run))

    async def require_clean(self, run: SagaRun) -> None:
        raise AssertionError(f"a delete only goes forward: {run.status}")

    async def require_abandoned(self, run: SagaRun) -> None:
        """Deleted; its host learns of it when it looks."""
        assert (await self.plane.instance(uid_of(run))).deleted
        await self.require_nothing_soon(uid_of(run))


@asynccontextmanager
async def create_and_delete(
    cell: Cell, folder: Path, *, conductors: int = 2, deadline: timedelta | None = None
) -> AsyncIterator[tuple[CreateStage, DeleteStage]]:
    """`deadline`: of each step, in place of its own."""
    create: Interposed[Any] = Interposed(hurried(INSTANCE_CREATE, deadline))
    delete: Interposed[Any] = Interposed(hurried(INSTANCE_DELETE, deadline))
    async with interposed_plane(cell, folder, (create, delete), conductors=conductors) as setting:
        yield CreateStage(setting, create), DeleteStage(setting, delete)
