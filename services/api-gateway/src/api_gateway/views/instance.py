"""Instances. What is known of their addresses is in their ports' views, and joined when an instance is read."""

from __future__ import annotations

from collections.abc import Mapping

from api_gateway.views.view import Columns, Row, View, etag
from cirra.agent.v1 import desired_pb2 as agent
from cirra.compute.v1 import compute_pb2 as pb
from cirra.compute.v1 import events_pb2 as events
from cirra.network.v1 import network_pb2 as network
from core.eventlog.types import RecordedEvent

INSTANCE = View(
    "instance",
    pb.Instance,
    columns=lambda instance: Columns(
        project_id=instance.project_id,
        about=instance.user_id,
        display_name=instance.display_name,
        host=instance.host,
        state=pb.InstanceStatus.Name(instance.status),
    ),
)
_CREATE_TASK = "instance-create"
_POWER: Mapping[int, pb.PowerState.ValueType] = {
    agent.DOMAIN_STATE_ABSENT: pb.POWER_STATE_UNSPECIFIED,
    agent.DOMAIN_STATE_SHUTOFF: pb.POWER_STATE_SHUTDOWN,
    agent.DOMAIN_STATE_RUNNING: pb.POWER_STATE_RUNNING,
    agent.DOMAIN_STATE_PAUSED: pb.POWER_STATE_PAUSED,
    agent.DOMAIN_STATE_CRASHED: pb.POWER_STATE_CRASHED,
}
_SETTLED = (pb.INSTANCE_STATUS_ACTIVE, pb.INSTANCE_STATUS_SHUTOFF)


def with_addresses(row: Row[pb.Instance], ports: Mapping[str, Row[network.Port]]) -> pb.Instance:
    """A copy of the instance, each NIC with what its port's view knows. `ports`: by uid."""
    instance = pb.Instance()
    instance.CopyFrom(row.resource)
    position = row.update_position
    for nic in instance.nics:
        found = ports.get(nic.port)
        if found is None:
            continue
        position = max(position, found.update_position)
        _describe(nic, found.resource)
    instance.etag = etag(row.uid, position)
    return instance


def _describe(nic: pb.InstanceNic, port: network.Port) -> None:
    nic.network = port.network
    nic.mac_address = port.mac_address
    if port.fixed_ips:
        nic.fixed_ip = port.fixed_ips[0].ip_address
    nic.leased_ip = port.leased_ip
    nic.seen_ip = port.seen_ip
    nic.floating_ips[:] = [floating_ip.floating_ip_address for floating_ip in port.floating_ips]
    if port.HasField("lease_time"):
        nic.lease_time.CopyFrom(port.lease_time)
    if port.HasField("seen_time"):
        nic.seen_time.CopyFrom(port.seen_time)


@INSTANCE.on(events.InstanceCreated, begins=True)
def _created(instance: pb.Instance, event: RecordedEvent, message: events.InstanceCreated) -> None:
    instance.name = f"projects/{message.project_id}/instances/{instance.uid}"
    instance.project_id = message.project_id
    instance.user_id = message.user_id
    instance.display_name = message.display_name
    instance.hostname = message.hostname
    instance.status = pb.INSTANCE_STATUS_BUILD
    instance.task_state = _CREATE_TASK if message.task_id else ""
    instance.flavor = message.flavor_id
    instance.flavor_summary.CopyFrom(message.flavor)
    instance.image = message.image_id
    instance.key_pair = message.key_pair_id
    instance.nics.extend(message.nics)
    instance.availability_zone = message.availability_zone
    instance.server_group = message.server_group_id
    instance.metadata.update(message.metadata)
    instance.tags.extend(message.tags)


@INSTANCE.on(events.InstanceHostAssigned)
def _host_assigned(instance: pb.Instance, event: RecordedEvent, message: events.InstanceHostAssigned) -> None:
    instance.host = message.host
    instance.virt_type = message.virt_type
    instance.availability_zone = message.availability_zone


@INSTANCE.on(events.InstanceHostReleased)
def _host_released(instance: pb.Instance, event: RecordedEvent, message: events.InstanceHostReleased) -> None:
    instance.host = ""
    instance.power_state = pb.POWER_STATE_UNSPECIFIED


@INSTANCE.on(events.InstanceNicAttached)
def _nic_attached(instance: pb.Instance, event: RecordedEvent, message: events.InstanceNicAttached) -> None:
    instance.nics.append(message.nic)


@INSTANCE.on(events.InstanceNicDetached)
def _nic_detached(instance: pb.Instance, event: RecordedEvent, message: events.InstanceNicDetached) -> None:
    kept = [nic for nic in instance.nics if nic.port != message.port]
    del instance.nics[:]
    instance.nics.extend(kept)


@INSTANCE.on(events.InstanceDomainObserved)
def _domain_observed(instance: pb.Instance, event: RecordedEvent, message: events.InstanceDomainObserved) -> None:
    """While a host says only that it failed, the power state stays what it was."""
    state = message.observed.state
    if state == agent.DOMAIN_STATE_UNSPECIFIED:
        return
    instance.power_state = _POWER[state]
    if instance.status in _SETTLED:
        instance.status = _status(instance)


@INSTANCE.on(events.InstanceActivated)
def _activated(instance: pb.Instance, event: RecordedEvent, message: events.InstanceActivated) -> None:
    instance.launch_time.FromDatetime(event.recorded_at)
    instance.status = _status(instance)
    instance.ClearField("fault")


def _status(instance: pb.Instance) -> pb.InstanceStatus.ValueType:
    """Of an instance that was built, by what its host says of the guest."""
    off = instance.power_state in (pb.POWER_STATE_SHUTDOWN, pb.POWER_STATE_CRASHED)
    return pb.INSTANCE_STATUS_SHUTOFF if off else pb.INSTANCE_STATUS_ACTIVE


@INSTANCE.on(events.InstanceErred)
def _erred(instance: pb.Instance, event: RecordedEvent, message: events.InstanceErred) -> None:
    instance.status = pb.INSTANCE_STATUS_ERROR
    instance.fault.CopyFrom(message.fault)
    instance.fault.time.FromDatetime(event.recorded_at)


@INSTANCE.on(events.InstanceRecovered)
def _recovered(instance: pb.Instance, event: RecordedEvent, message: events.InstanceRecovered) -> None:
    instance.status = _status(instance)
    instance.ClearField("fault")


@INSTANCE.on(events.InstanceUpdated)
def _updated(instance: pb.Instance, event: RecordedEvent, message: events.InstanceUpdated) -> None:
    paths = message.update_mask.paths
    if "display_name" in paths:
        instance.display_name = message.display_name
    if "metadata" in paths:
        instance.metadata.clear()
        instance.metadata.update(message.metadata)
    if "tags" in paths:
        instance.tags[:] = message.tags


@INSTANCE.on(events.InstanceLocked)
def _locked(instance: pb.Instance, event: RecordedEvent, message: events.InstanceLocked) -> None:
    instance.locked, instance.locked_reason = True, message.reason


@INSTANCE.on(events.InstanceUnlocked)
def _unlocked(instance: pb.Instance, event: RecordedEvent, message: events.InstanceUnlocked) -> None:
    instance.locked, instance.locked_reason = False, ""


@INSTANCE.on(events.InstanceTaskStarted)
def _task_started(instance: pb.Instance, event: RecordedEvent, message: events.InstanceTaskStarted) -> None:
    instance.task_state = message.task


@INSTANCE.on(events.InstanceTaskEnded)
def _task_ended(instance: pb.Instance, event: RecordedEvent, message: events.InstanceTaskEnded) -> None:
    instance.task_state = ""


@INSTANCE.on(events.InstanceMetadataFetched)
def _metadata_fetched(instance: pb.Instance, event: RecordedEvent, message: events.InstanceMetadataFetched) -> None:
    if not instance.HasField("metadata_fetch_time"):
        instance.metadata_fetch_time.FromDatetime(event.recorded_at)


@INSTANCE.on(events.InstanceDeleted, ends=True)
def _deleted(instance: pb.Instance, event: RecordedEvent, message: events.InstanceDeleted) -> None:
    instance.status = pb.INSTANCE_STATUS_DELETED
    instance.task_state = ""
    instance.power_state = pb.POWER_STATE_UNSPECIFIED
