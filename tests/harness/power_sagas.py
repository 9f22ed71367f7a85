"""The sagas that turn an instance on and off and boot it anew, on their stages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from cirra.agent.v1 import desired_pb2 as agent
from cirra.compute.v1 import compute_pb2 as compute
from cirra.conductor.v1.commands_pb2 import Accepted
from conductor.compute.actions import State
from conductor.compute.instance import Instance
from conductor.compute.instance_reboot import INSTANCE_REBOOT
from conductor.compute.instance_start import INSTANCE_START
from conductor.compute.instance_stop import INSTANCE_STOP
from core.rpc.context import acting_as
from core.saga import SagaRun
from core.saga.state import SagaStatus
from core.testing.sagas import Interposed
from core.testing.servers import Cell
from tests.harness.control_plane import ADMIN, PATIENCE_S
from tests.harness.stages import InstanceStage, Setting, hurried, interposed_plane, uid_of


class PowerStage(InstanceStage):
    """Of a saga that turns an instance on or off, or boots it anew. What its power was, and shall be."""

    def __init__(
        self,
        setting: Setting,
        kit: Interposed[Any],
        earlier: agent.DesiredPower.ValueType,
        wanted: agent.DesiredPower.ValueType,
    ) -> None:
        super().__init__(setting, kit)
        self._earlier, self._wanted = earlier, wanted

    async def begin(self) -> UUID:
        uid = await self.active()
        if self._earlier == agent.DESIRED_POWER_OFF:
            stopped = await self.plane.ended((await self._act("Stop", uid)).operation_id)
            assert stopped.status is SagaStatus.COMPLETED, stopped.error
        action = self.kit.original.name.removeprefix("instance-").title()
        return UUID((await self._act(action, uid)).operation_id)

    async def _act(self, action: str, uid: str) -> Accepted:
        with acting_as(ADMIN):
            request = getattr(compute, f"{action}InstanceRequest")(name=uid)
            accepted: Accepted = await getattr(self.plane.compute, f"{action}Instance")(request)
            return accepted

    async def require_done(self, run: SagaRun) -> None:
        instance = await self._require_at_rest(run, self._wanted)
        assert instance.domain is not None
        boots = 1 if self._wanted == agent.DESIRED_POWER_ON else 0
        assert (instance.boots, instance.domain.domain.boot) == (boots, boots)

    async def require_clean(self, run: SagaRun) -> None:
        await self._require_at_rest(run, self._earlier)

    async def require_abandoned(self, run: SagaRun) -> None:
        await self._require_at_rest(run, self._wanted if run.error is None else self._earlier)

    async def require_deleted(self, uid: str) -> None:
        """With all that it had."""
        assert (await self.plane.instance(uid)).deleted
        await self.require_nothing(uid)

    async def _require_at_rest(self, run: SagaRun, power: agent.DesiredPower.ValueType) -> Instance:
        """Nobody is at work on it, its desired state is this, and its host has made it so once it has looked."""
        uid = uid_of(run)
        instance = await self.plane.instance(uid)
        assert (instance.task_id, instance.active, instance.erred) == ("", True, False)
        assert instance.domain is not None
        assert instance.domain.domain.power == power
        state = State.ACTIVE if power == agent.DESIRED_POWER_ON else State.SHUTOFF
        async with asyncio.timeout(PATIENCE_S):
            # A host that was slow may still do what was wished before, and undoes it when it looks again.
            while (instance := await self.plane.instance(uid)).state is not state or self._powers(uid) != [power]:
                await self.reconcile()
                await asyncio.sleep(0.02)
        return instance

    def _powers(self, uid: str) -> list[agent.DesiredPower.ValueType]:
        """On each host that has the guest."""
        return [host.domains[uid].domain.power for host in self.hosts if uid in host.domains]


_ON, _OFF = agent.DESIRED_POWER_ON, agent.DESIRED_POWER_OFF
# Saga → what its instance's power is before it, and after.
POWER_SAGAS = (
    (INSTANCE_START, _OFF, _ON),
    (INSTANCE_STOP, _ON, _OFF),
    (INSTANCE_REBOOT, _ON, _ON),
)


def power_kits(deadline: timedelta | None = None) -> list[Interposed[Any]]:
    """In the order of `POWER_SAGAS`. `deadline`: of each step, in place of its own."""
    return [Interposed(hurried(saga, deadline)) for saga, _, _ in POWER_SAGAS]


def power_stages(setting: Setting, kits: list[Interposed[Any]]) -> dict[str, PowerStage]:
    """Saga's name → its stage."""
    return {
        saga.name: PowerStage(setting, kit, earlier, wanted)
        for kit, (saga, earlier, wanted) in zip(kits, POWER_SAGAS, strict=True)
    }


@asynccontextmanager
async def power_plane(
    cell: Cell, folder: Path, *, deadline: timedelta | None = None
) -> AsyncIterator[dict[str, PowerStage]]:
    """Saga's name → its stage."""
    kits = power_kits(deadline)
    async with interposed_plane(cell, folder, kits) as setting:
        yield power_stages(setting, kits)
