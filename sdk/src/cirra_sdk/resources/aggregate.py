"""Aggregates of hosts, and placement: zones, why instances are where they are, what would happen if."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import ClassVar

from google.protobuf.field_mask_pb2 import FieldMask

from cirra.compute.v1.compute_pb2 import Flavor, Instance
from cirra.compute.v1.server_group_pb2 import ServerGroup
from cirra.image.v1.image_pb2 import Image
from cirra.network.v1.network_pb2 import Network
from cirra.placement.v1 import aggregate_pb2 as pb
from cirra.placement.v1 import decisions_pb2 as decisions
from cirra.placement.v1.aggregate_pb2_grpc import AggregateServiceStub
from cirra.placement.v1.decisions_pb2_grpc import PlacementServiceStub
from cirra.placement.v1.placement_pb2 import Host
from cirra_sdk.resources.collection import Collection, name_of, request_id_or_new, uid_of
from cirra_sdk.transport import Transport


class Aggregates(Collection[pb.Aggregate]):
    """Hosts that have something in common. For administrators."""

    messages: ClassVar[ModuleType] = pb
    stub_class = AggregateServiceStub
    kind = "Aggregate"

    async def create(
        self,
        display_name: str,
        *,
        availability_zone: str = "",
        metadata: Mapping[str, str] | None = None,
        request_id: str | None = None,
    ) -> pb.Aggregate:
        """An empty one. Raises AlreadyExists."""
        aggregate = pb.Aggregate(
            display_name=display_name, availability_zone=availability_zone, metadata=dict(metadata or {})
        )
        made: pb.Aggregate = await self._call(
            "CreateAggregate", aggregate=aggregate, request_id=request_id_or_new(request_id)
        )
        return made

    async def update(
        self,
        name: pb.Aggregate | str,
        *,
        display_name: str | None = None,
        availability_zone: str | None = None,
        metadata: Mapping[str, str] | None = None,
        without: Iterable[str] = (),
        request_id: str | None = None,
    ) -> pb.Aggregate:
        """Sets what is named; *metadata* adds or changes keys, *without* removes some.

        Raises FailedPrecondition for a zone that would move hosts with instances.
        """
        told = {"display_name": display_name, "availability_zone": availability_zone}
        paths = [field for field, value in told.items() if value is not None]
        paths += [f"metadata.{key}" for key in (*(metadata or {}), *without)]
        aggregate = pb.Aggregate(
            name=name_of(name),
            display_name=display_name or "",
            availability_zone=availability_zone or "",
            metadata=dict(metadata or {}),
        )
        changed: pb.Aggregate = await self._call(
            "UpdateAggregate",
            aggregate=aggregate,
            update_mask=FieldMask(paths=paths),
            request_id=request_id_or_new(request_id),
        )
        return changed

    async def add_host(
        self, name: pb.Aggregate | str, host: Host | str, *, request_id: str | None = None
    ) -> pb.Aggregate:
        """Raises FailedPrecondition for a host that is in another zone."""
        return await self._move("AddAggregateHost", name, host, request_id)

    async def remove_host(
        self, name: pb.Aggregate | str, host: Host | str, *, request_id: str | None = None
    ) -> pb.Aggregate:
        """The host goes back to the zone that it enrolled with."""
        return await self._move("RemoveAggregateHost", name, host, request_id)

    async def _move(self, rpc: str, name: pb.Aggregate | str, host: Host | str, request_id: str | None) -> pb.Aggregate:
        changed: pb.Aggregate = await self._call(
            rpc, name=name_of(name), host=uid_of(host), request_id=request_id_or_new(request_id)
        )
        return changed


class Placement:
    """Where instances can go, and why they went there."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._stub = PlacementServiceStub(transport.channel)

    async def zones(self) -> builtins.list[decisions.AvailabilityZone]:
        """Availability zones, in order of name; with their hosts for an administrator."""
        answer: decisions.ListAvailabilityZonesResponse = await self._transport.unary(
            self._stub.ListAvailabilityZones, decisions.ListAvailabilityZonesRequest()
        )
        return [*answer.zones]

    async def explain(self, instance: Instance | str) -> decisions.PlacementExplanation:
        """Each attempt to find a host for an instance (administrators). Raises NotFound."""
        request = decisions.ExplainPlacementRequest(instance=name_of(instance))
        explanation: decisions.PlacementExplanation = await self._transport.unary(self._stub.ExplainPlacement, request)
        return explanation

    async def simulate(
        self,
        flavor: Flavor | str,
        count: int,
        *,
        image: Image | str = "",
        networks: Iterable[Network | str] = (),
        availability_zone: str = "",
        server_group: ServerGroup | str = "",
        without_hosts: Iterable[Host | str] = (),
    ) -> decisions.PlacementSimulation:
        """How many of *count* would find a host, and where (administrators). Changes nothing."""
        request = decisions.SimulatePlacementRequest(
            flavor=name_of(flavor),
            count=count,
            image=name_of(image),
            networks=[name_of(network) for network in networks],
            availability_zone=availability_zone,
            server_group=name_of(server_group),
            without_hosts=[uid_of(host) for host in without_hosts],
        )
        simulation: decisions.PlacementSimulation = await self._transport.unary(self._stub.SimulatePlacement, request)
        return simulation
