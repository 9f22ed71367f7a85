"""Where the sagas of instances are tried: a control plane whose runs can be interfered with, and two hosts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import UUID

import conductor
from cirra.conductor.v1.operations_pb2_grpc import OperationCommandsStub
from cirra.operations.v1.operations_pb2 import CancelOperationRequest, ResolveOperationRequest, RetryOperationRequest
from conductor.hosts.desired_state import DesiredState
from conductor.network.port import Port
from core.errors import FailedPrecondition
from core.ids import claim_aggregate_id
from core.rpc.context import acting_as
from core.saga import Saga, SagaRun
from core.saga.state import SagaStatus
from core.testing.sagas import Interposed
from core.testing.servers import Cell
from placement.claims.claim import Claim
from tests.harness.control_plane import ADMIN, PATIENCE_S, ControlPlane, Prepared, control_plane
from tests.harness.every_saga import modules_below
from tests.harness.fake_host import AGENTS, FakeHost
from tests.harness.invariants import check_invariants

HOSTS = ("host-1", "host-2")


@dataclass(frozen=True, slots=True)
class Setting:
    """`prepared`: what instances are made of."""

    plane: ControlPlane
    hosts: Sequence[FakeHost]
    prepared: Prepared


@contextmanager
def in_place(saga: Saga[Any]) -> Iterator[None]:
    """Conductors that begin meanwhile run it in place of the product's of that name."""
    constant = saga.name.replace("-", "_").upper()
    with ExitStack() as stack:
        for module in modules_below(conductor):
            if constant in vars(module):
                stack.enter_context(patch.object(module, constant, saga))
        yield


@asynccontextmanager
async def interposed_plane(
    cell: Cell, folder: Path, kits: Iterable[Interposed[Any]], *, conductors: int = 2
) -> AsyncIterator[Setting]:
    """Conductors that run the kits' sagas in place of the product's: the same steps, interposed.

    The invariants hold in the end.
    """
    async with AsyncExitStack() as stack:
        for kit in kits:
            stack.enter_context(in_place(kit.saga))
        plane = await stack.enter_async_context(control_plane(cell, folder, conductors=conductors))
        hosts = [await plane.add_host(FakeHost(name, cell)) for name in HOSTS]
        await plane.hosts_are_up(*HOSTS)
        yield Setting(plane, hosts, await plane.prepare())
        await check_invariants(plane)


async def reconcile(plane: ControlPlane, hosts: Sequence[FakeHost]) -> None:
    """What the hosts' agents do on their timer: make so what is desired, as far as that is projected by now."""
    pool, cell = plane.repository.log.pool, plane.cell.name
    desired_state = DesiredState(pool, f"{cell}_conductor", f"{cell}_log")
    for host in hosts:
        for agent_name in AGENTS:
            for desired in await desired_state.of_host(host.name, agent_name, 0):
                await host.make_so(desired)


class InstanceStage:
    """What the stages of all these sagas share. A run's instance is found by the run's target."""

    def __init__(self, setting: Setting, kit: Interposed[Any]) -> None:
        self.plane = setting.plane
        self.hosts = setting.hosts
        self.prepared = setting.prepared
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


def hurried(saga: Saga[Any], deadline: timedelta | None) -> Saga[Any]:
    """With this deadline of each step, in place of its own."""
    if deadline is None:
        return saga
    return replace(saga, steps=tuple(replace(step, deadline=deadline) for step in saga.steps))


def uid_of(run: SagaRun) -> str:
    """The instance that it is about."""
    return run.target.rpartition("/")[2]
