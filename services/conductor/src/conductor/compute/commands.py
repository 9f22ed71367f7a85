"""Commands on instances. Accepting one is one append: instance, ports, quota, and the saga that builds it."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any
from uuid import UUID

from cirra.compute.v1 import compute_pb2 as public
from cirra.compute.v1 import events_pb2 as pb
from cirra.conductor.v1 import commands_pb2_grpc
from cirra.conductor.v1.sagas_pb2 import InstanceCreateParams, InstanceDeleteParams
from cirra.identity.v1.identity_pb2 import Principal
from cirra.network.v1 import network_pb2 as network_api
from cirra.placement.v1 import scheduling_pb2 as scheduling
from conductor.access import is_admin, require_owner, require_project
from conductor.compute import console
from conductor.compute.actions import Action
from conductor.compute.counts import ONE, Counts, as_many_as_fit, counts_of
from conductor.compute.flavor import Flavor
from conductor.compute.instance import Instance
from conductor.compute.instance_create import INSTANCE_CREATE
from conductor.compute.instance_delete import INSTANCE_DELETE
from conductor.compute.interface_commands import InterfaceCommands
from conductor.compute.key_pair import KeyPair
from conductor.compute.new_nics import NicOrder, check_nic, port_of
from conductor.compute.nics import MAX_NICS, public_nic
from conductor.compute.placing import Placing, placing_of
from conductor.fields import Fields, uid
from conductor.hosts.questions import Questions
from conductor.image.image import Image
from conductor.network.network import Network
from conductor.network.port import Port
from conductor.network.port_commands import AddressHints, with_free_addresses
from conductor.network.port_security import IN_NO_GROUP, PortSecurity, wanted_groups
from conductor.requests import Done, Requests, command, load_live, load_live_each
from core.aggregate import Aggregate
from core.errors import FailedPrecondition, FieldViolation, InvalidArgument, NotFound, ResourceExhausted
from core.ids import uuid7
from core.repository import Repository, Saved, again_on_conflict
from core.saga import SagaEngine

GIB = 1024**3
MAX_USER_DATA_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class _Parts:
    """What an instance is made of, each checked."""

    flavor: Flavor
    image: Image
    key_pair: KeyPair | None
    placing: Placing
    # Of the ports that are made for it.
    security: PortSecurity


@dataclass(frozen=True, slots=True)
class _Order:
    """What one request asks for, and who asks."""

    wanted: public.Instance
    parts: _Parts
    principal: Principal
    project_id: str
    reservation_id: str

    def nic(self, index: int, instance_id: UUID) -> NicOrder:
        field = f"instance.nics[{index}]"
        return NicOrder(field, self.wanted.nics[index], self.project_id, str(instance_id), self.parts.security)


@dataclass(frozen=True, slots=True)
class _Begun:
    """One of the instances of a request; `index` counts them from 0."""

    instance_id: UUID
    saga_id: UUID
    display_name: str
    index: int


class ComputeCommands(InterfaceCommands, commands_pb2_grpc.ComputeCommandsServicer):
    def __init__(
        self,
        repository: Repository,
        engine: SagaEngine,
        *,
        rng: random.Random | None = None,
        requests: Requests | None = None,
        questions: Questions,
    ) -> None:
        super().__init__(repository, engine, requests, rng)
        self._questions = questions

    @command(Instance, makes_new=True)
    async def CreateInstance(self, request: public.CreateInstanceRequest, principal: Principal) -> Done:
        return await self._create(request, principal, ONE)

    @command(Instance, makes_new=True)
    async def CreateInstances(self, request: public.CreateInstancesRequest, principal: Principal) -> Done:
        return await self._create(request, principal, counts_of(request))

    async def _create(
        self,
        request: public.CreateInstanceRequest | public.CreateInstancesRequest,
        principal: Principal,
        counts: Counts,
    ) -> Done:
        project_id = require_project(principal)
        wanted = request.instance
        _check(wanted)
        since = self.repository.log.known_position
        placing = await placing_of(self.repository, request, principal, project_id)
        parts = await self._parts(wanted, placing, principal, project_id)
        begun = [_Begun(uuid7(), uuid7(), name, index) for index, name in enumerate(counts.names(wanted.display_name))]
        order = _Order(wanted, parts, principal, project_id, f"r-{str(begun[0].saga_id)[-8:]}")

        async def once(hints: AddressHints, count: int) -> Done:
            made: list[Sequence[Aggregate]] = []
            for each in begun[:count]:
                try:
                    made.append(await self._instance(order, each, hints))
                except ResourceExhausted:  # of addresses
                    if len(made) < counts.least:
                        raise
                    break
            saved = await self.repository.save(*chain.from_iterable(made), *hints.default_groups.values())
            first: Any = made[0][0]
            return Done(first, saved, str(begun[0].saga_id), [str(each.saga_id) for each in begun[: len(made)]])

        async def make(count: int) -> Done:
            return await again_on_conflict(
                lambda: with_free_addresses(self.repository, self._rng, lambda hints: once(hints, count), since=since)
            )

        done = await as_many_as_fit(self.repository.log, counts, _needs(wanted, parts), make)
        for saga_id in done.operation_ids:
            self._engine.launch(UUID(saga_id), since=done.saved.position)
        return done

    async def _instance(self, order: _Order, begun: _Begun, hints: AddressHints) -> Sequence[Aggregate]:
        """Instance, ports, and the run that builds it, not yet saved."""
        ports = [
            await port_of(self.repository, order.nic(index, begun.instance_id), hints)
            for index in range(len(order.wanted.nics))
        ]
        networks = [await self.repository.glance(Network, UUID(port.network_id)) for port in ports]  # read just now
        instance = Instance.new(begun.instance_id)
        instance.record(_created(order, begun, ports))
        run = self._engine.prepare(
            INSTANCE_CREATE,
            InstanceCreateParams(
                instance_id=str(begun.instance_id),
                port_ids=[str(port.id) for port in ports],
                claim=_claim(instance, order.parts, networks),
            ),
            target=instance.resource_name,
            project_id=order.project_id,
            saga_id=begun.saga_id,
        )
        return instance, *ports, run

    @command(Instance)
    async def DeleteInstance(self, request: public.DeleteInstanceRequest, principal: Principal) -> Done:
        instance_id = uid("name", request.name)

        async def once() -> Done:
            instance = await load_live(self.repository, Instance, instance_id)
            require_owner(principal, instance.project_id, f"instance {instance_id}")
            if instance.delete_task_id:
                return Done(instance, Saved(0), instance.delete_task_id)
            instance.permit(Action.DELETE, by_admin=is_admin(principal))
            saga_id = uuid7()
            instance.request_delete(str(saga_id))
            run = self._engine.prepare(
                INSTANCE_DELETE,
                InstanceDeleteParams(
                    instance_id=str(instance_id),
                    port_ids=[nic.port for nic in instance.nics],
                    running_task_id=instance.task_id,
                ),
                target=instance.resource_name,
                project_id=instance.project_id,
                saga_id=saga_id,
            )
            saved = await self.repository.save(instance, run)
            self._engine.launch(saga_id, since=saved.position)
            return Done(instance, saved, str(saga_id))

        return await again_on_conflict(once)

    async def GetConsoleOutput(self, request: public.GetConsoleOutputRequest, context: Any) -> public.ConsoleOutput:
        """Asked of its host. Raises FailedPrecondition while it has none, Unavailable."""
        console.check(request)
        instance = await load_live(self.repository, Instance, uid("name", request.name))
        require_owner(self.requests.principal, instance.project_id, f"instance {instance.id}")
        return await console.console_output(self._questions, instance, request.lines)

    async def GetInstancePassword(
        self, request: public.GetInstancePasswordRequest, context: Any
    ) -> public.InstancePassword:
        """As the guest posted it. Raises NotFound while it has not."""
        instance = await load_live(self.repository, Instance, uid("name", request.name))
        require_owner(self.requests.principal, instance.project_id, f"instance {instance.id}")
        if not instance.password:
            raise NotFound(
                f"instance {instance.id} has posted no password",
                reason="NO_PASSWORD",
                remedy="log in with its key pair; only guests that make a password of their own post one",
            )
        return public.InstancePassword(name=instance.resource_name, password=instance.password)

    async def _parts(self, wanted: public.Instance, placing: Placing, principal: Principal, project_id: str) -> _Parts:
        """Loads and checks the references, and reads the networks of new ports. Raises NotFound, InvalidArgument."""
        named: list[tuple[type[Aggregate], UUID]] = [
            (Flavor, uid("instance.flavor", wanted.flavor)),
            (Image, uid("instance.image", wanted.image)),
        ]
        if wanted.key_pair:
            named.append((KeyPair, uid("instance.key_pair", wanted.key_pair)))
        networks = {uid(f"instance.nics[{index}].network", nic.network) for index, nic in _new_ports(wanted)}
        flavor, image, *others = await load_live_each(self.repository, *named, *((Network, each) for each in networks))
        if not (image.visible_to(project_id) or is_admin(principal)):
            raise InvalidArgument(FieldViolation("instance.image", f"this project has no image {wanted.image}"))
        key_pair = next((it for it in others if isinstance(it, KeyPair)), None)
        if key_pair is not None and key_pair.user_id != principal.user_id:
            raise InvalidArgument(FieldViolation("instance.key_pair", "it is another user's: give one of yours"))
        _check_fit(flavor, image)
        return _Parts(flavor, image, key_pair, placing, await self._security(wanted, project_id))

    async def _security(self, wanted: public.Instance, project_id: str) -> PortSecurity:
        """Raises InvalidArgument, NotFound, ResourceExhausted."""
        if all(nic.port for nic in wanted.nics):
            return IN_NO_GROUP
        names = wanted.security_groups
        return PortSecurity(
            group_ids=await wanted_groups(self.repository, "instance.security_groups", names, project_id)
        )


def _check(wanted: public.Instance) -> None:
    fields = Fields("instance.")
    fields.title("display_name", wanted.display_name)
    fields.texts("metadata", wanted.metadata)
    fields.tags("tags", wanted.tags)
    if len(wanted.user_data) > MAX_USER_DATA_BYTES:
        fields.refuse("user_data", f"{len(wanted.user_data)} bytes: give at most {MAX_USER_DATA_BYTES}")
    if len(wanted.nics) > MAX_NICS:
        fields.refuse("nics", f"give at most {MAX_NICS}")
    if wanted.security_groups and all(nic.port for nic in wanted.nics):
        fields.refuse("security_groups", "its ports are in groups of their own: leave it out, or change the ports")
    for index, nic in enumerate(wanted.nics):
        check_nic(fields, f"nics[{index}]", nic)
        if nic.port and any(nic.port == other.port for other in wanted.nics[:index]):
            fields.refuse(f"nics[{index}].port", "it is given twice: one port is one NIC")
    fields.check()


def _new_ports(wanted: public.Instance) -> Iterable[tuple[int, public.InstanceNic]]:
    """The NICs that get one, with their places."""
    return ((index, nic) for index, nic in enumerate(wanted.nics) if not nic.port)


def _check_fit(flavor: Flavor, image: Image) -> None:
    if not image.active:
        raise FailedPrecondition(
            f"image {image.id} has no data yet", reason="IMAGE_NOT_ACTIVE", remedy="upload its data first"
        )
    fields = Fields("instance.")
    disk_needed = max(image.min_disk_gib, -(-image.virtual_size_bytes // GIB))
    if flavor.disk_gib < disk_needed:
        fields.refuse("flavor", f"its disk of {flavor.disk_gib} GiB is too small: the image needs {disk_needed} GiB")
    if flavor.memory_mib < image.min_memory_mib:
        fields.refuse(
            "flavor", f"its memory of {flavor.memory_mib} MiB is too small: the image needs {image.min_memory_mib} MiB"
        )
    fields.check()


def _needs(wanted: public.Instance, parts: _Parts) -> dict[str, int]:
    """Resource → what one instance takes of the project's quota."""
    flavor = parts.flavor.summary
    needs = {"instances": 1, "vcpus": flavor.vcpus, "memory_mib": flavor.memory_mib}
    ports = sum(not nic.port for nic in wanted.nics)
    return {**needs, "ports": ports} if ports else needs


def _created(order: _Order, begun: _Begun, ports: Sequence[Port]) -> pb.InstanceCreated:
    wanted, parts, key_pair = order.wanted, order.parts, order.parts.key_pair
    return pb.InstanceCreated(
        project_id=order.project_id,
        user_id=order.principal.user_id,
        display_name=begun.display_name,
        hostname=hostname_of(begun.display_name),
        flavor_id=str(parts.flavor.id),
        flavor=parts.flavor.summary,
        image_id=str(parts.image.id),
        key_pair_id=str(key_pair.id) if key_pair else "",
        key_pair_name=key_pair.display_name if key_pair else "",
        public_key=key_pair.public_key if key_pair else "",
        user_data=wanted.user_data,
        metadata=wanted.metadata,
        tags=wanted.tags,
        availability_zone=parts.placing.zone,
        nics=[public_nic(port) for port in ports],
        task_id=str(begun.saga_id),
        launch_index=begun.index,
        reservation_id=order.reservation_id,
        server_group_id=str(parts.placing.group.id) if parts.placing.group else "",
    )


def _claim(instance: Instance, parts: _Parts, networks: Sequence[Network]) -> scheduling.ClaimRequest:
    return scheduling.ClaimRequest(
        claim_id=str(instance.id),
        project_id=instance.project_id,
        resources=scheduling.Resources(
            vcpus=parts.flavor.vcpus, memory_mib=parts.flavor.memory_mib, disk_gib=parts.flavor.disk_gib
        ),
        availability_zone=instance.availability_zone,
        extra_specs=parts.flavor.extra_specs,
        image_properties=parts.image.properties,
        physical_networks=sorted({network.physical_network for network in networks if network.physical_network}),
        tunnels=any(network.type == network_api.NETWORK_TYPE_VXLAN for network in networks),
        host=parts.placing.host,
        group=parts.placing.group.rule if parts.placing.group else None,
    )


def hostname_of(display_name: str) -> str:
    """A DNS label (RFC 1123) made of a display name: "My demo!" → "my-demo"."""
    label = re.sub(r"[^a-z0-9]+", "-", display_name.lower()).strip("-")[:63].rstrip("-")
    return label or "instance"
