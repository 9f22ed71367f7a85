"""Commands on instances that are there: names and labels, locks, power. The aggregate says when; see `actions`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from cirra.agent.v1.desired_pb2 import DESIRED_POWER_OFF, DESIRED_POWER_ON
from cirra.compute.v1 import compute_pb2 as public
from cirra.conductor.v1.sagas_pb2 import GuestPower, InstancePowerParams
from cirra.identity.v1.identity_pb2 import Principal
from conductor.access import is_admin, require_owner
from conductor.compute.actions import Action
from conductor.compute.catalog_commands import CatalogCommands
from conductor.compute.instance import Instance
from conductor.compute.instance_reboot import INSTANCE_REBOOT
from conductor.compute.instance_start import INSTANCE_START
from conductor.compute.instance_stop import INSTANCE_STOP
from conductor.compute.wishes import power_of
from conductor.fields import Fields, uid
from conductor.requests import Done, Requests, command, load_live
from conductor.updates import check_etag, check_mask, require_unchanged
from core.ids import uuid7
from core.masks import masked_map
from core.repository import Repository, again_on_conflict
from core.saga import Saga, SagaEngine

UPDATABLE = ("display_name", "metadata", "tags")


class ActionCommands(CatalogCommands):
    def __init__(self, repository: Repository, engine: SagaEngine, requests: Requests | None = None) -> None:
        super().__init__(repository, requests)
        self._engine = engine

    @command(Instance)
    async def UpdateInstance(self, request: public.UpdateInstanceRequest, principal: Principal) -> Done:
        _check_update(request)
        instance_id = uid("instance.name", request.instance.name)

        async def once() -> Done:
            instance = await self._permitted(instance_id, Action.UPDATE, principal)
            await require_unchanged(self.repository.log, instance, request.etag)
            update(instance, request)
            return Done(instance, await self.repository.save(instance))

        return await again_on_conflict(once)

    @command(Instance)
    async def LockInstance(self, request: public.LockInstanceRequest, principal: Principal) -> Done:
        fields = Fields()
        fields.reason("reason", request.reason, required=False)
        fields.check()

        def lock(instance: Instance) -> None:
            instance.lock(request.reason.strip(), by_admin=is_admin(principal))

        return await self._changed(request.name, Action.LOCK, principal, lock)

    @command(Instance)
    async def UnlockInstance(self, request: public.UnlockInstanceRequest, principal: Principal) -> Done:
        return await self._changed(
            request.name, Action.UNLOCK, principal, lambda it: it.unlock(by_admin=is_admin(principal))
        )

    @command(Instance)
    async def StartInstance(self, request: public.StartInstanceRequest, principal: Principal) -> Done:
        return await self._power(
            request.name, Action.START, principal, INSTANCE_START, "powering-on", GuestPower(power=DESIRED_POWER_ON)
        )

    @command(Instance)
    async def StopInstance(self, request: public.StopInstanceRequest, principal: Principal) -> Done:
        return await self._power(
            request.name, Action.STOP, principal, INSTANCE_STOP, "powering-off", GuestPower(power=DESIRED_POWER_OFF)
        )

    @command(Instance)
    async def RebootInstance(self, request: public.RebootInstanceRequest, principal: Principal) -> Done:
        _check_reboot(request)
        hard = request.type == public.REBOOT_TYPE_HARD
        action, task = (Action.REBOOT_HARD, "rebooting_hard") if hard else (Action.REBOOT, "rebooting")
        wanted = GuestPower(power=DESIRED_POWER_ON, hard_boot=hard)
        return await self._power(request.name, action, principal, INSTANCE_REBOOT, task, wanted)

    async def _permitted(self, instance_id: UUID, action: Action, principal: Principal) -> Instance:
        """The instance, if its caller may do this to it now. Raises NotFound, FailedPrecondition."""
        instance = await load_live(self.repository, Instance, instance_id)
        require_owner(principal, instance.project_id, f"instance {instance_id}")
        instance.permit(action, by_admin=is_admin(principal))
        return instance

    async def _changed(
        self, name: str, action: Action, principal: Principal, change: Callable[[Instance], None]
    ) -> Done:
        instance_id = uid("name", name)

        async def once() -> Done:
            instance = await self._permitted(instance_id, action, principal)
            change(instance)
            return Done(instance, await self.repository.save(instance))

        return await again_on_conflict(once)

    async def _power(
        self, name: str, action: Action, principal: Principal, saga: Saga[Any], task: str, wanted: GuestPower
    ) -> Done:
        """One append: the instance is in the hands of the task, and the saga begins. `wanted`: without its boot."""
        instance_id = uid("name", name)

        async def once() -> Done:
            instance = await self._permitted(instance_id, action, principal)
            assert instance.domain is not None  # the table wants it built
            boots = wanted.power == DESIRED_POWER_ON
            saga_id = uuid7()
            run = self._engine.prepare(
                saga,
                InstancePowerParams(
                    instance_id=str(instance_id),
                    wanted=GuestPower(power=wanted.power, boot=instance.boots + boots, hard_boot=wanted.hard_boot),
                    earlier=power_of(instance.domain.domain),
                    port_ids=[nic.port for nic in instance.nics],
                ),
                target=instance.resource_name,
                project_id=instance.project_id,
                saga_id=saga_id,
            )
            instance.start_task(task, str(saga_id))
            saved = await self.repository.save(instance, run)
            self._engine.launch(saga_id, since=saved.position)
            return Done(instance, saved, str(saga_id))

        return await again_on_conflict(once)


def update(instance: Instance, request: public.UpdateInstanceRequest) -> None:
    """As the mask says (AIP-134, AIP-161)."""
    wanted, paths = request.instance, frozenset(request.update_mask.paths)
    metadata = masked_map("metadata", paths, instance.metadata, wanted.metadata)
    fields = Fields("instance.")
    fields.texts("metadata", metadata)  # what there is and what comes, together
    fields.check()
    instance.update(
        wanted.display_name if "display_name" in paths else instance.display_name,
        metadata,
        wanted.tags if "tags" in paths else instance.tags,
    )


def _check_update(request: public.UpdateInstanceRequest) -> None:
    fields = Fields()
    check_mask(fields, request.update_mask.paths, UPDATABLE, map_field="metadata")
    check_etag(fields, request.etag)
    if "display_name" in request.update_mask.paths:
        fields.title("instance.display_name", request.instance.display_name)
    if "tags" in request.update_mask.paths:
        fields.tags("instance.tags", request.instance.tags)
    fields.check()


def _check_reboot(request: public.RebootInstanceRequest) -> None:
    fields = Fields()
    if request.type not in public.RebootType.values():
        fields.refuse("type", f"{request.type} is unknown: give REBOOT_TYPE_SOFT or REBOOT_TYPE_HARD")
    fields.check()
