"""All that happened to a resource and because of it, in order: what a trace and ten log files would tell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from api_gateway.views.decoding import decode
from api_gateway.views.network import SUBNET
from api_gateway.views.store import Store
from cirra.compute.v1 import events_pb2 as compute
from cirra.events.v1 import events_pb2 as pb
from cirra.network.v1 import events_pb2 as network
from cirra.operations.v1 import events_pb2 as saga
from cirra.placement.v1 import events_pb2 as placement
from core.eventlog.log import EventLog
from core.eventlog.types import RecordedEvent
from core.ids import claim_aggregate_id

_MAX_EVENTS = 10_000
_STEP_ENDS = (saga.StepSucceeded, saga.StepFailed)
_AGENT_OF: Mapping[str, str] = {
    "cirra.compute.v1.InstanceDomainObserved": "compute-agent",
    "cirra.compute.v1.InstanceMetadataFetched": "metadata",
    "cirra.network.v1.PortBindingObserved": "net-agent",
    "cirra.network.v1.PortLeaseSeen": "net-agent",
    "cirra.network.v1.PortAddressSeen": "net-agent",
}
_FAILURES = (saga.StepFailed, saga.SagaStuck, saga.SagaUnwound, compute.InstanceErred, placement.ClaimRefused)
_PLACEMENT_TYPES = ("claim", "host")


async def gather(log: EventLog, store: Store, uid: UUID) -> list[RecordedEvent]:
    """The events of a resource, its claim, its ports and the sagas on it, in order of position."""
    aggregates = {uid, claim_aggregate_id(uid), *await _related(store, uid)}
    events = await _of_subnet(log, store, uid)
    for aggregate_id in aggregates:
        events.extend(await log.list_events(aggregate_id=aggregate_id, limit=_MAX_EVENTS))
    events.sort(key=lambda event: event.position)
    return events[:_MAX_EVENTS]


async def _of_subnet(log: EventLog, store: Store, uid: UUID) -> list[RecordedEvent]:
    """Those of its network that are about it, if *uid* is a subnet's: it has no stream of its own."""
    found: list[RecordedEvent] = []
    for row in await store.of_any_kind([str(uid)]):
        if row.kind == SUBNET.kind:
            events = await log.list_events(aggregate_id=UUID(row.resource.network), limit=_MAX_EVENTS)
            found += [event for event in events if getattr(decode(event), "subnet_id", "") == str(uid)]
    return found


async def _related(store: Store, uid: UUID) -> set[UUID]:
    related = {UUID(found) for found in await store.uids_about(str(uid))}
    for row in await store.of_any_kind([str(uid)]):
        related.update(UUID(nic.port) for nic in getattr(row.resource, "nics", ()) if nic.port)
    return related


def timeline(resource: str, events: Iterable[RecordedEvent]) -> pb.Timeline:
    """Entries in order of position; a step of a saga is one entry, from its start to its end. Pure."""
    return _Builder(resource).build(events)


class _Builder:
    def __init__(self, resource: str) -> None:
        self._timeline = pb.Timeline(resource=resource)
        self._began: datetime | None = None
        # (saga, step, item) → the entry of its start, and when that was.
        self._running: dict[tuple[UUID, str, str], tuple[pb.TimelineEntry, datetime]] = {}

    def build(self, events: Iterable[RecordedEvent]) -> pb.Timeline:
        for event in events:
            self._began = self._began or event.recorded_at
            self._timeline.trace_id = self._timeline.trace_id or _trace_id(event.traceparent)
            message = decode(event)
            if isinstance(message, _STEP_ENDS) and self._end_step(event, message):
                continue
            entry = self._add(event, message)
            if isinstance(message, saga.StepStarted):
                self._running[event.aggregate_id, message.step, message.item] = (entry, event.recorded_at)
        return self._timeline

    def _add(self, event: RecordedEvent, message: Any) -> pb.TimelineEntry:
        assert self._began is not None
        entry = self._timeline.entries.add(
            position=event.position,
            offset_ms=_milliseconds(self._began, event.recorded_at),
            title=_title(event, message),
            detail=_detail(message),
            source=_source(event, message),
            failed=_failed(message),
        )
        entry.time.FromDatetime(event.recorded_at)
        return entry

    def _end_step(self, event: RecordedEvent, message: saga.StepSucceeded | saga.StepFailed) -> bool:
        """Completes the entry of the step's start; False when that is not among the events."""
        started = self._running.pop((event.aggregate_id, message.step, message.item), None)
        if started is None:
            return False
        entry, began = started
        entry.duration_ms = _milliseconds(began, event.recorded_at)
        entry.failed = _failed(message)
        entry.detail = _detail(message) or entry.detail
        return True


def _milliseconds(begin: datetime, end: datetime) -> int:
    return round((end - begin).total_seconds() * 1000)


def _trace_id(traceparent: str) -> str:
    """W3C Trace Context, section 3.2: version-traceid-parentid-flags."""
    parts = traceparent.split("-")
    return parts[1] if len(parts) == 4 else ""


def _title(event: RecordedEvent, message: Any) -> str:
    match message:
        case saga.StepStarted() | saga.StepSucceeded() | saga.StepFailed():
            return message.step
        case saga.StepUndone():
            return f"undo {message.step}"
        case saga.SagaStarted():
            return message.saga
        case _:
            return event.type.rpartition(".")[2]


def _failed(message: Any) -> bool:
    if isinstance(message, _FAILURES):
        return True
    return isinstance(message, (compute.InstanceDomainObserved, network.PortBindingObserved)) and message.HasField(
        "failure"
    )


def _source(event: RecordedEvent, message: Any) -> str:
    """The part that said so; an agent or the metadata service with its host."""
    agent = _AGENT_OF.get(event.type)
    if agent is not None:
        return f"{agent}@{message.host}"
    return "placement" if event.aggregate_type in _PLACEMENT_TYPES else "conductor"


def _detail(message: Any) -> str:
    """What happened, in a few words."""
    describe = _DETAILS.get(message.DESCRIPTOR.full_name) if message is not None else None
    return describe(message) if describe else ""


def _step_item(message: saga.StepStarted | saga.StepSucceeded | saga.StepUndone) -> str:
    attempt = f"attempt {message.attempt}" if message.attempt > 1 else ""
    return ", ".join(filter(None, (message.item, attempt)))


def _decision(message: placement.ClaimMade) -> str:
    considered = message.decision.hosts_considered
    return f"on {message.host} ({message.virt_type})" + (f", of {considered} hosts" if considered else "")


def _domain(message: compute.InstanceDomainObserved) -> str:
    if message.HasField("failure"):
        return f"{message.failure.reason}: {message.failure.message}"
    state = _enum_name(message.observed, "state").removeprefix("DOMAIN_STATE_").lower()
    return f"{state}, image from the host's cache" if message.observed.image_cached else state


def _port(message: network.PortBindingObserved) -> str:
    if message.HasField("failure"):
        return f"{message.failure.reason}: {message.failure.message}"
    return "gone" if message.observed.absent else "wired" if message.observed.wired else "not wired"


def _addresses(message: network.PortCreated) -> str:
    return ", ".join([*(fixed.ip_address for fixed in message.fixed_ips), message.mac_address])


def _updated_port(message: network.PortUpdated) -> str:
    """What has changed, and what its addresses are now if they have."""
    addresses = ", ".join(fixed.ip_address for fixed in message.fixed_ips)
    told = {"fixed_ips": f"fixed_ips: {addresses}", "display_name": f"display_name: {message.display_name}"}
    return "; ".join(told.get(path, path) for path in message.update_mask.paths)


def _snat(message: network.RouterGatewaySet | network.RouterSnatSet) -> str:
    return "with SNAT" if message.enable_snat else "without SNAT"


def _gateway(message: network.RouterGatewaySet) -> str:
    return f"out by network {message.network_id}, {_snat(message)}"


def _routes(message: network.RouterUpdated) -> str:
    routes = ", ".join(f"{route.destination} via {route.next_hop}" for route in message.routes)
    return ", ".join(filter(None, (message.display_name, routes)))


def _desired_domain(message: compute.InstanceDomainDesired) -> str:
    desired = message.desired
    wish = "absent" if desired.absent else _enum_name(desired.domain, "power").removeprefix("DESIRED_POWER_").lower()
    return f"{wish} on {desired.host}, generation {desired.generation}"


def _enum_name(message: Any, field: str) -> str:
    values = message.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number
    name: str = values[getattr(message, field)].name
    return name


def _error(message: Any) -> str:
    return f"{message.error.reason}: {message.error.message}" if message.error.reason else ""


_DETAILS: Mapping[str, Callable[[Any], str]] = {
    message_class.DESCRIPTOR.full_name: describe
    for message_class, describe in (
        (saga.StepStarted, _step_item),
        (saga.StepUndone, _step_item),
        (saga.StepSucceeded, lambda message: message.detail or _step_item(message)),
        (saga.StepFailed, _error),
        (saga.SagaStuck, _error),
        (saga.SagaUnwound, _error),
        (saga.SagaCancelRequested, lambda message: message.reason),
        (saga.SagaRetried, lambda message: message.note),
        (saga.SagaResolved, lambda message: "; left: ".join([message.note, *message.left])),
        (saga.SagaAdopted, lambda message: f"by {message.runner}"),
        (compute.InstanceCreated, lambda message: f"{message.display_name}, {message.flavor.display_name}"),
        (compute.InstanceHostAssigned, lambda message: f"{message.host} ({message.virt_type})"),
        (compute.InstanceHostReleased, lambda message: message.host),
        (compute.InstanceDomainDesired, _desired_domain),
        (compute.InstanceDomainObserved, _domain),
        (compute.InstanceErred, lambda message: f"{message.fault.reason}: {message.fault.message}"),
        (compute.InstanceNicAttached, lambda message: f"port {message.nic.port}, {message.nic.fixed_ip}"),
        (compute.InstanceNicDetached, lambda message: f"port {message.port}"),
        (compute.InstanceTaskStarted, lambda message: message.task),
        (compute.InstanceTaskEnded, lambda message: message.task),
        (compute.InstanceMetadataFetched, lambda message: f"{message.path} by {message.user_agent}"),
        (network.PortCreated, _addresses),
        (network.PortUpdated, _updated_port),
        (network.PortBindingDesired, lambda message: f"on {message.host}"),
        (network.PortBindingObserved, _port),
        (network.PortBindingRemoved, lambda message: f"on {message.host}"),
        (network.PortLeaseSeen, lambda message: f"{message.ip_address} {message.client_hostname}".strip()),
        (network.PortAddressSeen, lambda message: message.ip_address),
        (network.PortFloatingIpAdded, lambda message: message.floating_ip.floating_ip_address),
        (network.RouterInterfaceAdded, lambda message: f"{message.ip_address} on {message.cidr}"),
        (network.RouterInterfaceRemoved, lambda message: message.ip_address),
        (network.RouterGatewaySet, _gateway),
        (network.RouterSnatSet, _snat),
        (network.RouterUpdated, _routes),
        (network.FloatingIpCreated, lambda message: message.floating_ip_address),
        (network.FloatingIpAssociated, lambda message: f"to {message.fixed_ip_address} of port {message.port_id}"),
        (network.FloatingIpDisassociated, lambda message: f"from {message.fixed_ip_address}"),
        (placement.ClaimMade, _decision),
        (placement.ClaimRefused, lambda message: message.message),
        (placement.ClaimReleased, lambda message: message.host),
        (placement.ClaimCleanupPending, lambda message: message.host),
    )
}
