"""The sagas of instances on a stage: a control plane whose runs can be interfered with, and two hosts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import UUID

from cirra.agent.v1 import desired_pb2 as agent
from cirra.compute.v1 import compute_pb2 as compute
from cirra.conductor.v1.commands_pb2 import Accepted
from cirra.conductor.v1.operations_pb2_grpc import OperationCommandsStub
from cirra.operations.v1.operations_pb2 import CancelOperationRequest, ResolveOperationRequest, RetryOperationRequest
from conductor.compute.actions import State
from conductor.compute.instance import Instance
from conductor.compute.instance_create import INSTANCE_CREATE
from conductor.compute.instance_delete import INSTANCE_DELETE
from conductor.compute.instance_reboot import INSTANCE_REBOOT
from conductor.compute.instance_start import INSTANCE_START
from conductor.compute.instance_stop import INSTANCE_STOP
from conductor.hosts.desired_state import DesiredState
from conductor.network.port import Port
from core.errors import FailedPrecondition
from core.ids import claim_aggregate_id
from core.rpc.context import acting_as
from core.saga import Saga, SagaRun
from core.saga.engine import CANCELLED
from core.saga.state import SagaStatus
from core.testing.sagas import MADE_TO_FAIL, Interposed
from core.testing.servers import Cell
from placement.claims.claim import Claim
from tests.harness.control_plane import ADMIN, PATIENCE_S, ControlPlane, Prepared, control_plane
from tests.harness.fake_host import AGENTS, FakeHost
from tests.harness.invariants import check_invariants

HOSTS = ("host-1", "host-2")
# Longer than any stall of a busy machine: a host that is thought silent would make a run fail where nobody said so.
WINDOW_S = 60.0


async def reconcile(plane: ControlPlane, hosts: Sequence[FakeHost]) -> None:
    """What the hosts' agents do on their timer: make so what is desired, as far as that is projected by now."""
    pool, cell = plane.repository.log.pool, plane.cell.name
    desired_state = DesiredState(pool, f"{cell}_conductor", f"{cell}_log")
    for host in hosts:
        for agent_name in AGENTS:
            for desired in await desired_state.of_host(host.name, agent_name, 0):
                await host.make_so(desired)


class InstanceStage:
    """What the stages of both sagas share. A run's instance is found by the run's target."""

    def __init__(
        self, plane: ControlPlane, hosts: Sequence[FakeHost], prepared: Prepared, kit: Interposed[Any]
    ) -> None:
        self.plane = plane
        self.hosts = hosts
        self.prepared = prepared
        self.kit = kit
        self._alive = 0

    async def ended(self, saga_id: UUID) -> SagaRun:
        return await self.plane.ended(str(saga_id))

    @property
    def operations(self) -> Any:
        """The door of any conductor."""
        return OperationCommandsStub(self.plane.dial(self.plane.conductor_addresses))

    async def retry(self, saga_id: UUID) -> None:
        with acting_as(ADMIN):
            await self.operations.RetryOperation(RetryOperationRequest(name=str(saga_id), reason="mended"))

    async def resolve(self, saga_id: UUID) -> None:
        with acting_as(ADMIN):
            await self.operations.ResolveOperation(ResolveOperationRequest(name=str(saga_id), reason="beyond repair"))

    async def cancel(self, saga_id: UUID) -> bool:
        with acting_as(ADMIN):
            try:
                await self.operations.CancelOperation(CancelOperationRequest(name=str(saga_id), reason="a mistake"))
            except FailedPrecondition as error:
                assert error.reason == "OPERATION_NOT_CANCELLABLE", error
                return False
        return True

    async def reconcile(self) -> None:
        """Once, on all hosts."""
        await reconcile(self.plane, self.hosts)

    async def require_nothing_soon(self, uid: str) -> None:
        """As `require_nothing`, once the hosts have looked what is desired, and their reports are taken in."""
        last: AssertionError | None = None
        try:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    await self.reconcile()
                    try:
                        return await self.require_nothing(uid)
                    except AssertionError as error:
                        last = error
                    await asyncio.sleep(0.1)
        except TimeoutError as error:
            raise last or error from error

    async def crash_runner(self) -> None:
        dying = self.plane.conductors[self._alive]
        await self.plane.start_conductor()
        await dying.close()
        self._alive = len(self.plane.conductors) - 1

    async def active(self) -> str:
        """A new instance that is ACTIVE; its uid."""
        accepted = await self.prepared.create()
        run = await self.plane.ended(accepted.operation_id)
        assert run.status is SagaStatus.COMPLETED, (run.status, run.error)
        return accepted.uid

    async def require_active(self, uid: str) -> None:
        """Running on the one host that it is claimed on, and nowhere else."""
        instance = await self.plane.instance(uid)
        assert (instance.active, instance.task_id) == (True, "")
        assert instance.domain is not None
        assert (instance.domain.host, instance.domain.absent) == (instance.host, False)
        claim = await self.plane.repository.load(Claim, claim_aggregate_id(UUID(uid)))
        assert claim.held is not None
        assert (claim.held.host, claim.pending) == (instance.host, {})
        assert [host.name for host in self.hosts if uid in host.domains] == [instance.host]
        [nic] = instance.nics
        assert [host.name for host in self.hosts if nic.port in host.ports] == [instance.host]
        assert (await self.plane.repository.load(Port, UUID(nic.port))).bindings.keys() == {instance.host}

    async def require_nothing(self, uid: str) -> None:
        """No host, no claim, no port has anything of it."""
        instance = await self.plane.instance(uid)
        assert (instance.host, instance.task_id) == ("", "")
        claim = await self.plane.repository.find(Claim, claim_aggregate_id(UUID(uid)))
        assert claim is None or (claim.held, claim.pending) == (None, {})
        [nic] = instance.nics
        port = await self.plane.repository.load(Port, UUID(nic.port))
        assert (port.deleted, port.bindings) == (True, {})
        assert [host.name for host in self.hosts if uid in host.domains or nic.port in host.ports] == []

    async def require_sound(self) -> None:
        await check_invariants(self.plane)


class CreateStage(InstanceStage):
    async def begin(self) -> UUID:
        return UUID((await self.prepared.create()).operation_id)

    async def require_done(self, run: SagaRun) -> None:
        await self.require_active(_uid(run))

    async def require_clean(self, run: SagaRun) -> None:
        await self.require_nothing(_uid(run))
        instance = await self.plane.instance(_uid(run))
        assert not instance.active
        if not instance.deleted:
            assert run.error is not None
            assert (instance.erred, run.error.reason in (MADE_TO_FAIL, CANCELLED)) == (True, True)

    async def require_abandoned(self, run: SagaRun) -> None:
        """In ERROR, unless all was done. Past the pivot it keeps its guest, and can be deleted as ever."""
        uid = _uid(run)
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
        assert (await self.plane.instance(_uid(run))).deleted
        await self.require_nothing(_uid(run))

    async def require_clean(self, run: SagaRun) -> None:
        raise AssertionError(f"a delete only goes forward: {run.status}")

    async def require_abandoned(self, run: SagaRun) -> None:
        """Deleted; its host learns of it when it looks."""
        assert (await self.plane.instance(_uid(run))).deleted
        await self.require_nothing_soon(_uid(run))


@asynccontextmanager
async def interposed_plane(
    cell: Cell, folder: Path, *, conductors: int = 2, deadline: timedelta | None = None
) -> AsyncIterator[tuple[CreateStage, DeleteStage]]:
    """Conductors that run the kit's sagas in place of the product's: the same steps, interposed.

    `deadline`: of each step, in place of its own.
    """
    creates: Interposed[Any] = Interposed(_hurried(INSTANCE_CREATE, deadline))
    deletes: Interposed[Any] = Interposed(_hurried(INSTANCE_DELETE, deadline))
    async with AsyncExitStack() as stack:
        for module in ("conductor.bootstrap", "conductor.compute.commands"):
            stack.enter_context(patch(f"{module}.INSTANCE_CREATE", creates.saga))
            stack.enter_context(patch(f"{module}.INSTANCE_DELETE", deletes.saga))
        plane = await stack.enter_async_context(control_plane(cell, folder, conductors=conductors, window_s=WINDOW_S))
        hosts = [await plane.add_host(FakeHost(name, cell)) for name in HOSTS]
        await plane.hosts_are_up(*HOSTS)
        prepared = await plane.prepare()
        yield CreateStage(plane, hosts, prepared, creates), DeleteStage(plane, hosts, prepared, deletes)
        await check_invariants(plane)


class PowerStage(InstanceStage):
    """Of a saga that turns an instance on or off, or boots it anew. What its power was, and shall be."""

    def __init__(
        self,
        plane: ControlPlane,
        hosts: Sequence[FakeHost],
        prepared: Prepared,
        kit: Interposed[Any],
        earlier: agent.DesiredPower.ValueType,
        wanted: agent.DesiredPower.ValueType,
    ) -> None:
        super().__init__(plane, hosts, prepared, kit)
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
        uid = _uid(run)
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


@asynccontextmanager
async def power_plane(
    cell: Cell, folder: Path, *, conductors: int = 2, deadline: timedelta | None = None
) -> AsyncIterator[dict[str, PowerStage]]:
    """As `interposed_plane`, for the sagas of power: saga's name → its stage."""
    kits: dict[str, Interposed[Any]] = {saga.name: Interposed(_hurried(saga, deadline)) for saga, _, _ in POWER_SAGAS}
    async with AsyncExitStack() as stack:
        for name, kit in kits.items():
            constant = name.replace("-", "_").upper()
            for module in ("conductor.bootstrap", "conductor.compute.action_commands"):
                stack.enter_context(patch(f"{module}.{constant}", kit.saga))
        plane = await stack.enter_async_context(control_plane(cell, folder, conductors=conductors, window_s=WINDOW_S))
        hosts = [await plane.add_host(FakeHost(name, cell)) for name in HOSTS]
        await plane.hosts_are_up(*HOSTS)
        prepared = await plane.prepare()
        yield {
            saga.name: PowerStage(plane, hosts, prepared, kits[saga.name], earlier, wanted)
            for saga, earlier, wanted in POWER_SAGAS
        }
        await check_invariants(plane)


def _hurried(saga: Saga[Any], deadline: timedelta | None) -> Saga[Any]:
    if deadline is None:
        return saga
    return replace(saga, steps=tuple(replace(step, deadline=deadline) for step in saga.steps))


def _uid(run: SagaRun) -> str:
    return run.target.rpartition("/")[2]
