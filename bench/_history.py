"""A long history for benchmarks of reading: instances with a port each, as the log would hold them after their creates.

Their events are appended as they are, many to an append; nothing on any host stands behind them.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from ipaddress import IPv4Address
from uuid import UUID

from google.protobuf.message import Message

from bench._cloud import Cloud, Parts
from cirra.compute.v1 import compute_pb2 as compute
from cirra.compute.v1 import events_pb2 as compute_events
from cirra.network.v1 import events_pb2 as network_events
from cirra.network.v1 import network_pb2 as network
from core.eventlog import Append, Context, EventLog, NewEvent
from core.ids import uuid7
from deployment.config import Config
from deployment.servers import servers

_FIRST_ADDRESS = IPv4Address("10.0.16.1")
_INSTANCES_PER_APPEND = 100
HOSTS = 250
EVENTS_PER_INSTANCE = 4


def host_name(number: int) -> str:
    """The hosts take the instances in turn."""
    return f"host-{number % HOSTS:03d}"


def instance_name(number: int) -> str:
    return f"guest-{number:05d}"


@dataclass(frozen=True, slots=True)
class History:
    """`position`: of its last event."""

    instances: int
    events: int
    position: int


async def make_history(cloud: Cloud, parts: Parts, count: int) -> History:
    """*count* instances of the administrator's project, each ACTIVE on one of `HOSTS` hosts that there are not."""
    config = Config.load(cloud.layout)
    log = await EventLog.open(servers(cloud.layout, config).postgres_dsn, schema=f"{config.cell}_log")
    project_id = (await cloud.admin.projects.get("admin")).uid
    position = 0
    try:
        for first in range(0, count, _INSTANCES_PER_APPEND):
            numbers = range(first, min(first + _INSTANCES_PER_APPEND, count))
            events = tuple(event for number in numbers for event in _events(number, project_id, parts))
            appended = await log.append(Append(events, context=Context(actor="users/bench")))
            position = appended.last_position
    finally:
        await log.close()
    return History(count, count * EVENTS_PER_INSTANCE, position)


async def projected(cloud: Cloud, position: int) -> None:
    """Returns once the gateway's read model holds everything up to the position, and Postgres has statistics of it.

    Autovacuum makes them within a minute; before, a filter by host or name reads all that the project has.
    """
    config = Config.load(cloud.layout)
    log = await EventLog.open(servers(cloud.layout, config).postgres_dsn, schema=f"{config.cell}_log", pool_size=1)
    query = f'SELECT position FROM "{config.cell}_gateway".projections'
    try:
        while await log.pool.fetchval(query) < position:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        await log.pool.execute(f'ANALYZE "{config.cell}_gateway".resources')
    finally:
        await log.close()


def _events(number: int, project_id: str, parts: Parts) -> list[NewEvent]:
    instance_id, port_id = uuid7(), uuid7()
    port = network_events.PortCreated(
        project_id=project_id,
        network_id=parts.network.uid,
        mac_address="fa:16:3e:" + ":".join(f"{byte:02x}" for byte in number.to_bytes(3, "big")),
        fixed_ips=[network.FixedIp(subnet=parts.subnet.uid, ip_address=str(_FIRST_ADDRESS + number))],
        device_id=str(instance_id),
        owned_by_device=True,
    )
    created = compute_events.InstanceCreated(
        project_id=project_id,
        display_name=instance_name(number),
        hostname=instance_name(number),
        flavor_id=parts.flavor.uid,
        flavor=compute.FlavorSummary(display_name="bench", vcpus=1, memory_mib=64, disk_gib=1),
        image_id=parts.image.uid,
        nics=[compute.InstanceNic(network=parts.network.uid, port=str(port_id))],
    )
    assigned = compute_events.InstanceHostAssigned(host=host_name(number), virt_type="simulated", attempt=1)
    return [
        _event("port", port_id, 1, port),
        _event("instance", instance_id, 1, created),
        _event("instance", instance_id, 2, assigned),
        _event("instance", instance_id, 3, compute_events.InstanceActivated()),
    ]


def _event(aggregate_type: str, aggregate_id: UUID, version: int, message: Message) -> NewEvent:
    return NewEvent(
        aggregate_type=aggregate_type,
        aggregate_id=aggregate_id,
        version=version,
        type=message.DESCRIPTOR.full_name,
        data=message.SerializeToString(deterministic=True),
        event_id=uuid7(),
    )
