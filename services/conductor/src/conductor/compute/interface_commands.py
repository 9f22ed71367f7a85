"""Commands on the NICs of instances that are there: attach and detach."""

from __future__ import annotations

import random

from cirra.compute.v1 import compute_pb2 as public
from cirra.identity.v1.identity_pb2 import Principal
from conductor.compute import nics
from conductor.compute.action_commands import ActionCommands
from conductor.compute.actions import Action
from conductor.compute.instance import Instance
from conductor.compute.instance_attach_interface import INSTANCE_ATTACH_INTERFACE
from conductor.compute.instance_detach_interface import INSTANCE_DETACH_INTERFACE
from conductor.compute.new_nics import NicOrder, check_nic, port_of
from conductor.fields import Fields, uid
from conductor.network.port_commands import AddressHints, with_free_addresses
from conductor.network.port_security import IN_NO_GROUP, PortSecurity, wanted_groups
from conductor.requests import Done, Requests, command
from core.ids import uuid7
from core.repository import Repository, again_on_conflict
from core.saga import SagaEngine


class InterfaceCommands(ActionCommands):
    """`rng` chooses addresses."""

    def __init__(
        self,
        repository: Repository,
        engine: SagaEngine,
        requests: Requests | None = None,
        rng: random.Random | None = None,
    ) -> None:
        super().__init__(repository, engine, requests)
        self._rng = rng or random.SystemRandom()

    @command(Instance)
    async def AttachInterface(self, request: public.AttachInterfaceRequest, principal: Principal) -> Done:
        """One append: the port is the instance's, made for it or there before, and the saga begins."""
        fields = Fields()
        check_nic(fields, "nic", request.nic)
        fields.check()
        instance_id, saga_id = uid("name", request.name), uuid7()

        async def once(hints: AddressHints) -> Done:
            instance = await self._permitted(instance_id, Action.ADD_PORT, principal)
            security = await self._security_of(request.nic, instance.project_id)
            order = NicOrder("nic", request.nic, instance.project_id, str(instance_id), security)
            port = await port_of(self.repository, order, hints)
            params = nics.begin_attaching(instance, port, str(saga_id))
            run = self._engine.prepare(
                INSTANCE_ATTACH_INTERFACE,
                params,
                target=instance.resource_name,
                project_id=instance.project_id,
                saga_id=saga_id,
            )
            saved = await self.repository.save(instance, port, run, *hints.default_groups.values())
            self._engine.launch(saga_id, since=saved.position)
            return Done(instance, saved, str(saga_id))

        return await again_on_conflict(lambda: with_free_addresses(self.repository, self._rng, once))

    async def _security_of(self, nic: public.InstanceNic, project_id: str) -> PortSecurity:
        """Of a new port: as of one that is made with an instance that names no group."""
        if nic.port:
            return IN_NO_GROUP
        return PortSecurity(group_ids=await wanted_groups(self.repository, "nic", (), project_id))

    @command(Instance)
    async def DetachInterface(self, request: public.DetachInterfaceRequest, principal: Principal) -> Done:
        """A port that was made for the instance goes, one that was there before is free again."""
        instance_id, port_id, saga_id = uid("name", request.name), uid("port", request.port), uuid7()

        async def once() -> Done:
            instance = await self._permitted(instance_id, Action.REMOVE_PORT, principal)
            params = nics.begin_detaching(instance, str(port_id), str(saga_id))
            run = self._engine.prepare(
                INSTANCE_DETACH_INTERFACE,
                params,
                target=instance.resource_name,
                project_id=instance.project_id,
                saga_id=saga_id,
            )
            saved = await self.repository.save(instance, run)
            self._engine.launch(saga_id, since=saved.position)
            return Done(instance, saved, str(saga_id))

        return await again_on_conflict(once)
