"""PlacementService: zones, why an instance is where it is, and what would happen if."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from api_gateway.api.call import Call, Servicer, served
from api_gateway.api.fields import Fields
from api_gateway.api.zones import check_zone, list_zones
from api_gateway.views.catalog import FLAVOR
from api_gateway.views.decoding import decode
from api_gateway.views.image import IMAGE
from api_gateway.views.instance import INSTANCE
from api_gateway.views.network import NETWORK
from api_gateway.views.server_group import SERVER_GROUP
from cirra.placement.v1 import decisions_pb2 as pb
from cirra.placement.v1 import decisions_pb2_grpc
from cirra.placement.v1 import events_pb2 as events
from cirra.placement.v1 import scheduling_pb2 as scheduling
from core.eventlog.types import RecordedEvent
from core.ids import claim_aggregate_id
from core.rpc.retry import retried

MAX_COUNT = 1000
_TIMEOUT_S = 30.0


class PlacementService(Servicer, decisions_pb2_grpc.PlacementServiceServicer):
    @served
    async def ListAvailabilityZones(
        self, request: pb.ListAvailabilityZonesRequest, call: Call
    ) -> pb.ListAvailabilityZonesResponse:
        return pb.ListAvailabilityZonesResponse(zones=await list_zones(call))

    @served
    async def ExplainPlacement(self, request: pb.ExplainPlacementRequest, call: Call) -> pb.PlacementExplanation:
        """From the events of its claim: also of an instance that is deleted, or never had a host."""
        row = await call.reader.find(INSTANCE, request.instance, field="instance", deleted_too=True)
        recorded = await self.parts.log.read_aggregate(claim_aggregate_id(UUID(row.uid)))
        return pb.PlacementExplanation(instance=row.resource.name, attempts=attempts(recorded))

    @served
    async def SimulatePlacement(self, request: pb.SimulatePlacementRequest, call: Call) -> pb.PlacementSimulation:
        """Asked of placement, whose view is at least as new as what this call has read."""
        asked = scheduling.SimulateRequest(
            claim=await _claim(request, call),
            count=request.count,
            without_hosts=[name.removeprefix("hosts/") for name in request.without_hosts],
        )
        asked.claim.min_position = call.position
        found = await retried(lambda: self.parts.placement.Simulate(asked, timeout=_TIMEOUT_S), timeout_s=_TIMEOUT_S)
        most_first = sorted(found.placed_by_host.items(), key=lambda item: (-item[1], item[0]))
        return pb.PlacementSimulation(
            hosts_considered=found.hosts_considered,
            asked=request.count,
            placed=found.placed,
            hosts=[pb.SimulatedHost(host=host, instances=count) for host, count in most_first],
            refusal=found.refusal if found.HasField("refusal") else None,
            refusal_message=found.refusal_message,
            refusal_remedy=found.refusal_remedy,
        )


async def _claim(request: pb.SimulatePlacementRequest, call: Call) -> scheduling.ClaimRequest:
    """As the conductor would make it of an instance. Raises InvalidArgument, NotFound."""
    fields = Fields()
    fields.between("count", request.count, 1, MAX_COUNT)
    zone, _, host = request.availability_zone.partition(":")
    claim = scheduling.ClaimRequest(project_id=call.reader.principal.project_id, availability_zone=zone, host=host)
    await check_zone(fields, call, request.availability_zone)
    flavor = await fields.reference(call.reader, FLAVOR, "flavor", request.flavor)
    if flavor is not None:
        size = flavor.resource
        claim.resources.vcpus, claim.resources.memory_mib = size.vcpus, size.memory_mib
        claim.resources.disk_gib = size.disk_gib
        claim.extra_specs.update(size.extra_specs)
    if request.image:
        image = await fields.reference(call.reader, IMAGE, "image", request.image)
        claim.image_properties.update(image.resource.properties if image is not None else {})
    segments = set()
    for index, name in enumerate(request.networks):
        network = await fields.reference(call.reader, NETWORK, f"networks[{index}]", name)
        segments.add(network.resource.physical_network if network is not None else "")
    claim.physical_networks.extend(sorted(segments - {""}))
    if request.server_group:
        group = await fields.reference(call.reader, SERVER_GROUP, "server_group", request.server_group)
        if group is not None:
            policy: Any = group.resource.policy
            most = group.resource.max_servers_per_host
            claim.group.CopyFrom(scheduling.GroupRule(group_id=group.uid, policy=policy, max_servers_per_host=most))
    fields.check()
    return claim


def attempts(recorded: Iterable[RecordedEvent]) -> list[pb.PlacementAttempt]:
    """Of a claim's events, in order: what was decided in each attempt, and what became of it. Pure."""
    found: list[pb.PlacementAttempt] = []
    for event in recorded:
        message = decode(event)
        match message:
            case events.ClaimMade():
                attempt = _attempt(event, message, pb.PLACEMENT_OUTCOME_CLAIMED)
                attempt.host = message.host
                if message.HasField("group"):
                    attempt.group.CopyFrom(message.group)
                found.append(attempt)
            case events.ClaimRefused():
                attempt = _attempt(event, message, pb.PLACEMENT_OUTCOME_REFUSED)
                attempt.message = message.message
                found.append(attempt)
            case events.ClaimCleanupPending():
                _ended(found, event, message, pb.PLACEMENT_OUTCOME_CLEANUP_PENDING)
            case events.ClaimReleased():
                _ended(found, event, message, pb.PLACEMENT_OUTCOME_RELEASED)
    return found


def _attempt(
    event: RecordedEvent,
    message: events.ClaimMade | events.ClaimRefused,
    outcome: pb.PlacementOutcome.ValueType,
) -> pb.PlacementAttempt:
    attempt = pb.PlacementAttempt(
        attempt=message.attempt,
        outcome=outcome,
        position=event.position,
        resources=message.resources,
        decision=message.decision,
    )
    attempt.time.FromDatetime(event.recorded_at)
    return attempt


def _ended(
    found: Iterable[pb.PlacementAttempt],
    event: RecordedEvent,
    message: events.ClaimReleased | events.ClaimCleanupPending,
    outcome: pb.PlacementOutcome.ValueType,
) -> None:
    for attempt in found:
        if attempt.attempt == message.attempt and attempt.host == message.host:
            attempt.outcome = pb.PLACEMENT_OUTCOME_BUILD_FAILED if message.build_failed else outcome
            attempt.release_time.FromDatetime(event.recorded_at)
