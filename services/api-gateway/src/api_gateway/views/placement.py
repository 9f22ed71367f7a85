"""Hosts. What is used of one is the sum of the claims on it."""

from __future__ import annotations

from api_gateway.views.view import Audience, Columns, View
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
        state=pb.HostState.Name(host.state),
    ),
    audience=Audience.ADMINISTRATORS,
    named_by_display_name=True,
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


@HOST.on(events.HostEnabled)
def _enabled(host: pb.Host, event: RecordedEvent, message: events.HostEnabled) -> None:
    host.enabled = True
    host.disabled_reason = ""


@HOST.on(events.HostDisabled)
def _disabled(host: pb.Host, event: RecordedEvent, message: events.HostDisabled) -> None:
    host.enabled = False
    host.disabled_reason = message.reason


@HOST.on(events.HostUp)
def _up(host: pb.Host, event: RecordedEvent, message: events.HostUp) -> None:
    host.state = pb.HOST_STATE_UP
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
    for status in host.agents:
        if status.agent in message.silent_agents:
            status.up = False


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
