"""Hosts and their aggregates. What is used of a host is the sum of the claims on it."""

from __future__ import annotations

from api_gateway.views.view import Audience, Columns, View
from cirra.placement.v1 import aggregate_pb2 as pb_aggregate
from cirra.placement.v1 import events_pb2 as events
from cirra.placement.v1 import placement_pb2 as pb
from cirra.placement.v1 import scheduling_pb2 as scheduling
from core.eventlog.types import RecordedEvent
from core.ids import host_aggregate_id

HOST = View(
    "host",
    pb.Host,
    columns=lambda host: Columns(
        display_name=host.name.removeprefix("hosts/"),
        host=host.name.removeprefix("hosts/"),
        # A host is a part of its zone: found by that when somebody asks for the zone.
        parent=host.availability_zone,
        state=pb.HostState.Name(host.state),
    ),
    audience=Audience.ADMINISTRATORS,
    named_by_display_name=True,
)
AGGREGATE = View(
    "aggregate",
    pb_aggregate.Aggregate,
    columns=lambda aggregate: Columns(display_name=aggregate.display_name),
    audience=Audience.ADMINISTRATORS,
)


def _claimed_host(event: RecordedEvent, message: events.ClaimMade | events.ClaimReleased) -> str:
    return str(host_aggregate_id(message.host))


@HOST.on(events.HostEnrolled, begins=True)
def _enrolled(host: pb.Host, event: RecordedEvent, message: events.HostEnrolled) -> None:
    host.availability_zone = message.availability_zone
    if host.name:  # again, after a new installation
        return
    host.name = f"hosts/{message.host}"
    host.state = pb.HOST_STATE_ENROLLED
    host.enabled = True
    host.enrol_time.FromDatetime(event.recorded_at)
    host.usage.SetInParent()


@HOST.on(events.HostInventoryChanged)
def _inventory_changed(host: pb.Host, event: RecordedEvent, message: events.HostInventoryChanged) -> None:
    host.inventory.CopyFrom(message.inventory)
    _allocate(host, message)


@HOST.on(events.HostAggregatesChanged)
def _aggregates_changed(host: pb.Host, event: RecordedEvent, message: events.HostAggregatesChanged) -> None:
    host.aggregates[:] = [each.display_name for each in message.aggregates]
    host.availability_zone = message.availability_zone
    _allocate(host, message)


def _allocate(host: pb.Host, message: events.HostInventoryChanged | events.HostAggregatesChanged) -> None:
    """What may be claimed of it from now on."""
    host.allocation_ratios.CopyFrom(message.ratios)
    for name in ("vcpus", "memory_mib", "disk_gib"):
        setattr(host.capacity, name, getattr(message.capacity, name))


@HOST.on(events.HostOrphansChanged)
def _orphans_changed(host: pb.Host, event: RecordedEvent, message: events.HostOrphansChanged) -> None:
    """What was seen before keeps the time at which it was seen first."""
    seen = {(it.agent, it.kind, it.object_id): it.see_time for it in host.orphans}
    kept = [it for it in host.orphans if it.agent != message.agent]
    del host.orphans[:]
    host.orphans.extend(sorted([*kept, *message.orphans], key=lambda it: (it.agent, it.kind, it.object_id)))
    for it in host.orphans:
        if (it.agent, it.kind, it.object_id) in seen:
            it.see_time.CopyFrom(seen[it.agent, it.kind, it.object_id])
        elif it.agent == message.agent:
            it.see_time.FromDatetime(event.recorded_at)


@HOST.on(events.HostFaultsChanged)
def _faults_changed(host: pb.Host, event: RecordedEvent, message: events.HostFaultsChanged) -> None:
    """As orphans; one that has another reason now is another."""
    seen = {(it.agent, it.kind, it.object_id, it.reason): it.see_time for it in host.faults}
    kept = [it for it in host.faults if it.agent != message.agent]
    del host.faults[:]
    host.faults.extend(sorted([*kept, *message.faults], key=lambda it: (it.agent, it.kind, it.object_id)))
    for it in host.faults:
        known = seen.get((it.agent, it.kind, it.object_id, it.reason))
        if known is not None:
            it.see_time.CopyFrom(known)
        elif it.agent == message.agent:
            it.see_time.FromDatetime(event.recorded_at)


@HOST.on(events.HostEnabled)
def _enabled(host: pb.Host, event: RecordedEvent, message: events.HostEnabled) -> None:
    host.enabled = True
    host.disabled_reason = ""


@HOST.on(events.HostDisabled)
def _disabled(host: pb.Host, event: RecordedEvent, message: events.HostDisabled) -> None:
    host.enabled = False
    host.disabled_reason = message.reason


@HOST.on(events.HostObserveOnly)
def _observed_only(host: pb.Host, event: RecordedEvent, message: events.HostObserveOnly) -> None:
    host.observe_only = True


@HOST.on(events.HostDifferencesAccepted)
def _accepted(host: pb.Host, event: RecordedEvent, message: events.HostDifferencesAccepted) -> None:
    host.observe_only = False


@HOST.on(events.HostUp)
def _up(host: pb.Host, event: RecordedEvent, message: events.HostUp) -> None:
    host.state = pb.HOST_STATE_UP
    _evacuation(host, pb.EVACUATION_STATE_UNSPECIFIED)
    known = {status.agent: status for status in host.agents}
    for agent, boot_id in sorted(message.boot_ids.items()):
        status = known.get(agent) or host.agents.add(agent=agent)
        status.up = True
        status.boot_id = boot_id


@HOST.on(events.HostSuspected)
def _suspected(host: pb.Host, event: RecordedEvent, message: events.HostSuspected) -> None:
    """The silent agents count as up until the host is declared down."""
    host.state = pb.HOST_STATE_SUSPECTED


@HOST.on(events.HostDown)
def _down(host: pb.Host, event: RecordedEvent, message: events.HostDown) -> None:
    host.state = pb.HOST_STATE_DOWN
    _evacuation(host, pb.EVACUATION_STATE_ALLOWED)
    for status in host.agents:
        if status.agent in message.silent_agents:
            status.up = False


@HOST.on(events.HostEvacuationHeld)
def _evacuation_held(host: pb.Host, event: RecordedEvent, message: events.HostEvacuationHeld) -> None:
    _evacuation(host, pb.EVACUATION_STATE_HELD, message.reason)


@HOST.on(events.HostEvacuationApproved)
def _evacuation_approved(host: pb.Host, event: RecordedEvent, message: events.HostEvacuationApproved) -> None:
    _evacuation(host, pb.EVACUATION_STATE_APPROVED, message.reason)


def _evacuation(host: pb.Host, state: pb.EvacuationState.ValueType, reason: str = "") -> None:
    host.evacuation = state
    host.evacuation_reason = reason


@HOST.on(events.ClaimMade, of=_claimed_host)
def _claimed(host: pb.Host, event: RecordedEvent, message: events.ClaimMade) -> None:
    _use(host.usage, message.resources, 1)


@HOST.on(events.ClaimReleased, of=_claimed_host)
def _released(host: pb.Host, event: RecordedEvent, message: events.ClaimReleased) -> None:
    _use(host.usage, message.resources, -1)


def _use(usage: pb.Usage, resources: scheduling.Resources, sign: int) -> None:
    usage.vcpus += sign * resources.vcpus
    usage.memory_mib += sign * resources.memory_mib
    usage.disk_gib += sign * resources.disk_gib
    usage.instances += sign


@AGGREGATE.on(events.AggregateCreated, begins=True)
def _aggregate_created(
    aggregate: pb_aggregate.Aggregate, event: RecordedEvent, message: events.AggregateCreated
) -> None:
    aggregate.name = f"aggregates/{aggregate.uid}"
    _describe(aggregate, message)


@AGGREGATE.on(events.AggregateChanged)
def _aggregate_changed(
    aggregate: pb_aggregate.Aggregate, event: RecordedEvent, message: events.AggregateChanged
) -> None:
    _describe(aggregate, message)


def _describe(aggregate: pb_aggregate.Aggregate, message: events.AggregateCreated | events.AggregateChanged) -> None:
    aggregate.display_name = message.display_name
    aggregate.availability_zone = message.availability_zone
    aggregate.metadata.clear()
    aggregate.metadata.update(message.metadata)


@AGGREGATE.on(events.AggregateHostAdded)
def _host_added(aggregate: pb_aggregate.Aggregate, event: RecordedEvent, message: events.AggregateHostAdded) -> None:
    aggregate.hosts.append(message.host)


@AGGREGATE.on(events.AggregateHostRemoved)
def _host_removed(
    aggregate: pb_aggregate.Aggregate, event: RecordedEvent, message: events.AggregateHostRemoved
) -> None:
    aggregate.hosts.remove(message.host)


@AGGREGATE.on(events.AggregateDeleted, ends=True)
def _aggregate_deleted(
    aggregate: pb_aggregate.Aggregate, event: RecordedEvent, message: events.AggregateDeleted
) -> None:
    """Its last state stays."""
