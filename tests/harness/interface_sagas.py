"""The sagas that plug and unplug NICs, on their stages."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

from cirra.compute.v1 import compute_pb2 as compute
from cirra.conductor.v1.commands_pb2 import Accepted
from cirra.conductor.v1.sagas_pb2 import InterfaceParams
from conductor.compute.actions import State
from conductor.compute.instance import Instance
from conductor.compute.instance_attach_interface import INSTANCE_ATTACH_INTERFACE
from conductor.compute.instance_detach_interface import INSTANCE_DETACH_INTERFACE
from conductor.network.port import Port
from core.rpc.context import acting_as
from core.saga import SagaRun
from core.saga.state import SagaStatus
from core.testing.sagas import Interposed
from tests.harness.control_plane import ADMIN, PATIENCE_S
from tests.harness.stages import InstanceStage, Setting, uid_of

INTERFACE_SAGAS = (INSTANCE_ATTACH_INTERFACE, INSTANCE_DETACH_INTERFACE)


class InterfaceStage(InstanceStage):
    """An instance with one NIC, and a second one that comes or goes, whose port was made for it."""

    def __init__(self, setting: Setting, kit: Interposed[Any]) -> None:
        super().__init__(setting, kit)
        # By instance: its second port.
        self._ports: dict[str, str] = {}

    async def attach(self, uid: str) -> Accepted:
        nic = compute.InstanceNic(network=self.prepared.network_id)
        with acting_as(ADMIN):
            accepted: Accepted = await self.plane.compute.AttachInterface(
                compute.AttachInterfaceRequest(name=uid, nic=nic)
            )
        # Of the run, which is what it was begun with: the instance may have lost the NIC again by now.
        run, params = await self.plane.repository.load(SagaRun, UUID(accepted.operation_id)), InterfaceParams()
        assert run.params.Unpack(params)
        self._ports[uid] = params.port_id
        return accepted

    async def require_with(self, uid: str) -> None:
        """At rest, with both NICs, on its host and in the log."""
        instance = await self._at_rest(uid, 2)
        port = await self.plane.repository.load(Port, UUID(self._ports[uid]))
        assert (port.device_id, port.deleted, list(port.bindings)) == (uid, False, [instance.host])
        assert [host.name for host in self.hosts if self._ports[uid] in host.ports] == [instance.host]

    async def require_without(self, uid: str) -> None:
        """At rest, with one NIC; nothing is left of the other."""
        await self._at_rest(uid, 1)
        port = await self.plane.repository.load(Port, UUID(self._ports[uid]))
        assert (port.deleted, port.bindings) == (True, {})
        assert [host.name for host in self.hosts if self._ports[uid] in host.ports] == []

    async def _at_rest(self, uid: str, nics: int) -> Instance:
        """Nobody is at work on it, and its host has it so, once it has looked."""
        instance = await self.plane.instance(uid)
        assert (instance.task_id, instance.state, len(instance.nics)) == ("", State.ACTIVE, nics)
        assert instance.domain is not None
        wanted = [nic.port for nic in instance.nics]
        assert [nic.port_id for nic in instance.domain.domain.nics] == wanted
        async with asyncio.timeout(PATIENCE_S):
            while not self._settled(uid, wanted):
                await self.reconcile()
                await asyncio.sleep(0.02)
        return instance

    def _settled(self, uid: str, wanted: list[str]) -> bool:
        """The one host that has the guest has these NICs of it, and wired ports for them and no other."""
        has = [[nic.port_id for nic in host.domains[uid].domain.nics] for host in self.hosts if uid in host.domains]
        wired = {port for host in self.hosts for port in host.ports if port == self._ports[uid]}
        return has == [wanted] and wired == {self._ports[uid]} & set(wanted)


class AttachStage(InterfaceStage):
    async def begin(self) -> UUID:
        return UUID((await self.attach(await self.active())).operation_id)

    async def require_done(self, run: SagaRun) -> None:
        await self.require_with(uid_of(run))

    async def require_clean(self, run: SagaRun) -> None:
        await self.require_without(uid_of(run))

    async def require_abandoned(self, run: SagaRun) -> None:
        await (self.require_with(uid_of(run)) if run.error is None else self.require_without(uid_of(run)))


class DetachStage(InterfaceStage):
    async def begin(self) -> UUID:
        uid = await self.active()
        # As it is when nobody interferes: the kit is of the other saga.
        attached = await self.plane.ended((await self.attach(uid)).operation_id)
        assert attached.status is SagaStatus.COMPLETED, attached.error
        with acting_as(ADMIN):
            accepted: Accepted = await self.plane.compute.DetachInterface(
                compute.DetachInterfaceRequest(name=uid, port=self._ports[uid])
            )
        return UUID(accepted.operation_id)

    async def require_done(self, run: SagaRun) -> None:
        await self.require_without(uid_of(run))

    async def require_clean(self, run: SagaRun) -> None:
        await self.require_with(uid_of(run))

    async def require_abandoned(self, run: SagaRun) -> None:
        await (self.require_without(uid_of(run)) if run.error is None else self.require_with(uid_of(run)))


def interface_kits() -> list[Interposed[Any]]:
    """In the order of `INTERFACE_SAGAS`."""
    return [Interposed(saga) for saga in INTERFACE_SAGAS]


def interface_stages(setting: Setting, kits: list[Interposed[Any]]) -> dict[str, AttachStage | DetachStage]:
    """Saga's name → its stage."""
    attach, detach = kits
    return {attach.original.name: AttachStage(setting, attach), detach.original.name: DetachStage(setting, detach)}
