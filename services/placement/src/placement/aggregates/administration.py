"""The HostAdministrationService: what operators decide of hosts and of aggregates. Called by the conductor only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID, uuid5

import grpc

from cirra.placement.v1 import administration_pb2 as api
from cirra.placement.v1 import administration_pb2_grpc
from cirra.placement.v1 import aggregate_pb2 as aggregates
from cirra.placement.v1 import placement_pb2 as public
from core.context import acting
from core.errors import AlreadyExists, FailedPrecondition, FieldViolation, InvalidArgument, NotFound
from core.eventlog.errors import UniqueViolation
from core.fields import Fields
from core.ids import host_aggregate_id, last_segment, parse_uuid, uuid7
from core.masks import check_mask, masked_map
from core.repository import Repository, Saved, again_on_conflict
from core.rpc.context import require_principal
from placement.aggregates.aggregate import NAMES, HostAggregate
from placement.hosts.capacity import MAX_AMOUNT, MAX_RATIO, Ratios, capacity_scope
from placement.hosts.host import Host

_REQUESTS = UUID("7d0e6f1c-2a0e-5a3c-9a44-0f6a3c7a9b21")
_RATIO_FIELDS = ("vcpu_allocation_ratio", "memory_allocation_ratio", "disk_allocation_ratio")
_RESERVED_FIELDS = ("reserved_vcpus", "reserved_memory_mib", "reserved_disk_gib")
HOST_PATHS = tuple(f"inventory.{name}" for name in (*_RATIO_FIELDS, *_RESERVED_FIELDS))
AGGREGATE_PATHS = ("display_name", "availability_zone", "metadata")


class HostAdministration(administration_pb2_grpc.HostAdministrationServiceServicer):
    """`default`: the allocation ratios of what says nothing of its own."""

    def __init__(self, repository: Repository, *, default: Ratios) -> None:
        self._repository = repository
        self._default = default

    async def UpdateHost(self, request: public.UpdateHostRequest, context: grpc.aio.ServicerContext) -> api.Written:
        _check_host(request)
        name = last_segment(request.host.name)

        def decide(host: Host) -> None:
            inventory = public.Inventory()
            inventory.CopyFrom(host.inventory)
            for path in request.update_mask.paths:
                field = path.removeprefix("inventory.")
                setattr(inventory, field, getattr(request.host.inventory, field))
            host.set_inventory(inventory, self._default)

        with acting(actor=require_principal().user_id):
            try:
                host, saved = await self._repository.change(Host, host_aggregate_id(name), decide)
            except NotFound as error:
                raise NotFound(f"no host {name!r}", remedy="see `cirra host list`") from error
        return await self._written(host.id, f"hosts/{name}", saved)

    async def CreateAggregate(
        self, request: aggregates.CreateAggregateRequest, context: grpc.aio.ServicerContext
    ) -> api.Written:
        wanted, actor = request.aggregate, require_principal().user_id
        # The same request makes the same aggregate, however often it comes.
        made_id = uuid5(_REQUESTS, f"{actor}/{request.request_id}") if request.request_id else uuid7()

        async def once() -> tuple[HostAggregate, Saved]:
            aggregate = await self._repository.find(HostAggregate, made_id) or HostAggregate.new(made_id)
            aggregate.create(wanted.display_name, wanted.availability_zone, wanted.metadata)
            return aggregate, await self._save(aggregate)

        with acting(actor=actor):
            aggregate, saved = await again_on_conflict(once)
        return await self._written(aggregate.id, aggregate.resource_name, saved)

    async def UpdateAggregate(
        self, request: aggregates.UpdateAggregateRequest, context: grpc.aio.ServicerContext
    ) -> api.Written:
        fields = Fields()
        check_mask(fields, request.update_mask.paths, AGGREGATE_PATHS, map_field="metadata")
        fields.check()

        def decide(aggregate: HostAggregate) -> Iterable[str]:
            before = aggregate.membership
            aggregate.change(*_updated(aggregate, request))
            return () if aggregate.membership == before else aggregate.hosts

        return await self._change(request.aggregate.name, decide)

    async def DeleteAggregate(
        self, request: aggregates.DeleteAggregateRequest, context: grpc.aio.ServicerContext
    ) -> api.Written:
        def decide(aggregate: HostAggregate) -> Iterable[str]:
            aggregate.delete()
            return ()

        return await self._change(request.name, decide)

    async def AddAggregateHost(
        self, request: aggregates.AddAggregateHostRequest, context: grpc.aio.ServicerContext
    ) -> api.Written:
        def decide(aggregate: HostAggregate) -> Iterable[str]:
            aggregate.add_host(last_segment(request.host))
            return [last_segment(request.host)]

        return await self._change(request.name, decide)

    async def RemoveAggregateHost(
        self, request: aggregates.RemoveAggregateHostRequest, context: grpc.aio.ServicerContext
    ) -> api.Written:
        def decide(aggregate: HostAggregate) -> Iterable[str]:
            aggregate.remove_host(last_segment(request.host))
            return [last_segment(request.host)]

        return await self._change(request.name, decide)

    async def _change(self, name: str, decide: Callable[[HostAggregate], Iterable[str]]) -> api.Written:
        """Changes an aggregate and, in the same append, the hosts that *decide* names."""
        aggregate_id = parse_uuid(last_segment(name))
        if aggregate_id is None:
            raise InvalidArgument(FieldViolation("name", f"{name!r} is neither a resource name nor a uid"))

        async def once() -> tuple[HostAggregate, Saved]:
            aggregate = await self._repository.find(HostAggregate, aggregate_id) or HostAggregate.new(aggregate_id)
            hosts = await asyncio.gather(*map(self._host, decide(aggregate)))
            for host in hosts:
                await self._tell(host, aggregate)
            return aggregate, await self._save(aggregate, *hosts)

        with acting(actor=require_principal().user_id):
            aggregate, saved = await again_on_conflict(once)
        return await self._written(aggregate.id, aggregate.resource_name, saved)

    async def _host(self, name: str) -> Host:
        host = await self._repository.find(Host, host_aggregate_id(name))
        if host is None:
            raise InvalidArgument(FieldViolation("host", f"there is no host {name!r}: see `cirra host list`"))
        return host

    async def _tell(self, host: Host, aggregate: HostAggregate) -> None:
        """Raises FailedPrecondition when that would move instances to another zone."""
        before = host.availability_zone
        if host.name in aggregate.hosts:
            host.join(aggregate.membership, self._default)
        else:
            host.leave(str(aggregate.id), self._default)
        if host.availability_zone == before:
            return
        used = await self._repository.log.counter(capacity_scope("vcpus"), host.name)
        if used.used:
            raise FailedPrecondition(
                f"host {host.name} would go from zone {before} to {host.availability_zone}, and has instances",
                reason="HOST_HAS_INSTANCES",
                remedy="move or delete its instances first: each is in the zone that it was created in",
            )

    async def _save(self, *changed: Any) -> Saved:
        try:
            return await self._repository.save(*changed)
        except UniqueViolation as error:
            if error.scope != NAMES:
                raise
            raise AlreadyExists(
                f"aggregate.display_name: an aggregate named {error.key!r} exists already",
                reason="NAME_TAKEN",
                remedy="choose another name",
                metadata={"field": "aggregate.display_name", "owner": error.owner},
            ) from error

    async def _written(self, uid: UUID, name: str, saved: Saved) -> api.Written:
        # Nothing had to be changed: it is so since some position up to here.
        position = saved.position or (await self._repository.log.head()).position
        return api.Written(uid=str(uid), name=name, position=position)


def _check_host(request: public.UpdateHostRequest) -> None:
    fields, inventory = Fields(), request.host.inventory
    check_mask(fields, request.update_mask.paths, HOST_PATHS)
    for path in filter(HOST_PATHS.__contains__, request.update_mask.paths):
        name = path.removeprefix("inventory.")
        if name in _RATIO_FIELDS and not 0 <= getattr(inventory, name) <= MAX_RATIO:
            fields.refuse(f"host.{path}", f"give 0 (none of its own) to {MAX_RATIO:g}")
        elif name in _RESERVED_FIELDS:
            fields.between(f"host.{path}", getattr(inventory, name), 0, MAX_AMOUNT)
    fields.check()


def _updated(aggregate: HostAggregate, request: aggregates.UpdateAggregateRequest) -> tuple[str, str, dict[str, str]]:
    """Name, zone and metadata as the mask says."""
    wanted, paths = request.aggregate, frozenset(request.update_mask.paths)
    return (
        wanted.display_name if "display_name" in paths else aggregate.display_name,
        wanted.availability_zone if "availability_zone" in paths else aggregate.availability_zone,
        masked_map("metadata", paths, aggregate.metadata, wanted.metadata),
    )
