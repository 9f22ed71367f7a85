"""AggregateService: aggregates of hosts."""

from __future__ import annotations

from api_gateway.api.call import Call, Servicer
from api_gateway.api.fields import Fields
from api_gateway.api.forward import forwarded, named, nothing, the
from api_gateway.api.read import getter, lister
from api_gateway.views.placement import AGGREGATE, HOST
from cirra.placement.v1 import aggregate_pb2 as pb
from cirra.placement.v1 import aggregate_pb2_grpc


async def _prepare_new(command: pb.CreateAggregateRequest, call: Call) -> None:
    wanted, fields = command.aggregate, Fields("aggregate.")
    fields.name("display_name", wanted.display_name)
    if wanted.availability_zone:
        fields.name("availability_zone", wanted.availability_zone)
    fields.texts("metadata", wanted.metadata)
    fields.check()


async def _prepare_change(command: pb.UpdateAggregateRequest, call: Call) -> None:
    """What the mask may name is placement's to say."""
    row = await call.reader.find(AGGREGATE, command.aggregate.name, field="aggregate.name")
    command.aggregate.name = row.resource.name


async def _prepare_host(command: pb.AddAggregateHostRequest | pb.RemoveAggregateHostRequest, call: Call) -> None:
    fields = Fields()
    aggregate = await fields.reference(call.reader, AGGREGATE, "name", command.name)
    host = await fields.reference(call.reader, HOST, "host", command.host)
    fields.check()
    assert aggregate is not None and host is not None
    command.name = aggregate.resource.name
    command.host = host.resource.name.removeprefix("hosts/")


class AggregateService(Servicer, aggregate_pb2_grpc.AggregateServiceServicer):
    CreateAggregate = forwarded(lambda conductor: conductor.placement.CreateAggregate, _prepare_new, the(AGGREGATE))
    GetAggregate = getter(AGGREGATE)
    ListAggregates = lister(AGGREGATE, pb.ListAggregatesResponse)
    UpdateAggregate = forwarded(lambda conductor: conductor.placement.UpdateAggregate, _prepare_change, the(AGGREGATE))
    DeleteAggregate = forwarded(
        lambda conductor: conductor.placement.DeleteAggregate,
        named(AGGREGATE),
        nothing(pb.DeleteAggregateResponse),
    )
    AddAggregateHost = forwarded(lambda conductor: conductor.placement.AddAggregateHost, _prepare_host, the(AGGREGATE))
    RemoveAggregateHost = forwarded(
        lambda conductor: conductor.placement.RemoveAggregateHost, _prepare_host, the(AGGREGATE)
    )
