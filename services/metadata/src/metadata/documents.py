"""What the service knows: instances, ports, networks, subnets, security groups, projected from the log.

User data and passwords stay sealed in here, each in a column of its own: they are opened when their guest asks, and
can't be once the instance is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import asyncpg

from cirra.compute.v1 import events_pb2 as compute
from cirra.network.v1 import events_pb2 as network
from cirra.network.v1 import network_pb2 as public
from core.eventlog.types import RecordedEvent
from core.projection import Projection, Statements

# `created`: InstanceCreated without its user data, with name and labels as they are now; `user_data`: InstanceCreated
# with nothing else, sealed; `password`: InstancePasswordPosted, sealed. `host`: of the active binding. `place`: of an
# address among those of its port. `floating_ips`: by the port that they lead to.
DDL = """
CREATE TABLE instances (
    instance_id uuid PRIMARY KEY, created bytea NOT NULL, user_data bytea, password bytea,
    zone text NOT NULL DEFAULT ''
);
CREATE TABLE ports (
    port_id uuid PRIMARY KEY, network_id uuid NOT NULL, instance_id uuid, host text NOT NULL DEFAULT '',
    mac text NOT NULL, security_groups uuid[] NOT NULL
);
CREATE INDEX ports_by_instance ON ports (instance_id);
CREATE TABLE fixed_ips (
    port_id uuid NOT NULL, place int NOT NULL, network_id uuid NOT NULL, address text NOT NULL,
    subnet_id uuid NOT NULL, PRIMARY KEY (port_id, place)
);
CREATE INDEX fixed_ips_by_address ON fixed_ips (network_id, address);
CREATE TABLE floating_ips (
    port_id uuid NOT NULL, floating_ip_id uuid NOT NULL, address text NOT NULL, fixed_address text NOT NULL,
    PRIMARY KEY (port_id, floating_ip_id)
);
CREATE TABLE security_groups (group_id uuid PRIMARY KEY, name text NOT NULL);
CREATE TABLE networks (network_id uuid PRIMARY KEY, mtu int NOT NULL);
CREATE TABLE subnets (
    subnet_id uuid PRIMARY KEY, network_id uuid NOT NULL, cidr text NOT NULL, gateway text NOT NULL,
    dhcp boolean NOT NULL, dns text[] NOT NULL
);
"""

CONCERNED = frozenset(
    message.DESCRIPTOR.full_name
    for message in (
        compute.InstanceCreated,
        compute.InstanceHostAssigned,
        compute.InstanceUpdated,
        compute.InstancePasswordPosted,
        compute.InstanceDeleted,
        network.PortCreated,
        network.PortUpdated,
        network.PortDeviceSet,
        network.PortBindingDesired,
        network.PortBindingRemoved,
        network.PortFloatingIpAdded,
        network.PortFloatingIpRemoved,
        network.PortDeleted,
        network.NetworkCreated,
        network.NetworkUpdated,
        network.NetworkDeleted,
        network.SubnetCreated,
        network.SubnetUpdated,
        network.SubnetDeleted,
        network.SecurityGroupCreated,
        network.SecurityGroupUpdated,
        network.SecurityGroupDeleted,
    )
)
"""The full names of the events that change documents."""

# Adds a statement about the rows of an event's aggregate, which no other's events touch.
Later = Callable[..., None]


class DocumentsProjection(Projection):
    """Projection `metadata-documents`."""

    name = "metadata-documents"
    version = 4
    ddl = DDL
    # A guest boots for longer before it asks.
    gather_s = 0.25

    def __init__(self) -> None:
        self._statements = Statements()

    def concerns(self, event: RecordedEvent) -> bool:
        return event.type in CONCERNED

    async def reset(self, connection: asyncpg.Connection) -> None:
        self.forget()
        await connection.execute(
            "DROP TABLE IF EXISTS instances, ports, fixed_ips, floating_ips, security_groups, networks, subnets"
        )

    async def apply(self, connection: asyncpg.Connection, event: RecordedEvent) -> None:
        later = partial(self._statements.add, event.aggregate_id)
        match event.aggregate_type:
            case "instance" if event.type.endswith(".InstanceUpdated"):
                await self._statements.run(connection)
                await _instance_updated(connection, event)
            case "instance":
                _instance(later, event)
            case "port":
                _port(later, event)
            case "network":
                _network(later, event)
            case "security_group":
                _security_group(later, event)

    async def flush(self, connection: asyncpg.Connection) -> None:
        await self._statements.run(connection)

    def forget(self) -> None:
        self._statements.forget()


def _instance(later: Later, event: RecordedEvent) -> None:
    instance_id = event.aggregate_id
    match event.type.rsplit(".", 1)[-1]:
        case "InstanceCreated":
            created = compute.InstanceCreated.FromString(event.data)
            secret = compute.InstanceCreated(user_data=created.user_data) if created.user_data else None
            created.ClearField("user_data")
            later(
                "INSERT INTO instances (instance_id, created, user_data, zone) VALUES ($1, $2, $3, $4)",
                instance_id,
                created.SerializeToString(),
                None if secret is None else secret.SerializeToString(),
                created.availability_zone,
            )
        case "InstanceHostAssigned":
            zone = compute.InstanceHostAssigned.FromString(event.data).availability_zone
            later("UPDATE instances SET zone = $2 WHERE instance_id = $1", instance_id, zone)
        case "InstancePasswordPosted":
            later("UPDATE instances SET password = $2 WHERE instance_id = $1", instance_id, event.data)
        case "InstanceDeleted":
            later("DELETE FROM instances WHERE instance_id = $1", instance_id)


async def _instance_updated(connection: asyncpg.Connection, event: RecordedEvent) -> None:
    stored = await connection.fetchval("SELECT created FROM instances WHERE instance_id = $1", event.aggregate_id)
    created = compute.InstanceCreated.FromString(stored)
    updated = compute.InstanceUpdated.FromString(event.data)
    for field in updated.update_mask.paths:
        created.ClearField(field)  # type: ignore[arg-type]
    # What the mask doesn't name is empty, and merges to nothing.
    named = compute.InstanceCreated(display_name=updated.display_name, metadata=updated.metadata, tags=updated.tags)
    created.MergeFrom(named)
    await connection.execute(
        "UPDATE instances SET created = $2 WHERE instance_id = $1", event.aggregate_id, created.SerializeToString()
    )


def _port(later: Later, event: RecordedEvent) -> None:
    port_id = event.aggregate_id
    match event.type.rsplit(".", 1)[-1]:
        case "PortCreated":
            _port_created(later, event, network.PortCreated.FromString(event.data))
        case "PortUpdated":
            updated = network.PortUpdated.FromString(event.data)
            if "fixed_ips" in updated.update_mask.paths:
                later("DELETE FROM fixed_ips WHERE port_id = $1", port_id)
                _fixed_ips(later, event, updated.fixed_ips)
            if "security_groups" in updated.update_mask.paths:
                groups = list(updated.security_group_ids)
                later("UPDATE ports SET security_groups = $2 WHERE port_id = $1", port_id, groups)
        case "PortDeviceSet":
            device_id = network.PortDeviceSet.FromString(event.data).device_id or None
            later("UPDATE ports SET instance_id = $2 WHERE port_id = $1", port_id, device_id)
        case "PortBindingDesired":
            binding = network.PortBindingDesired.FromString(event.data)
            if binding.state == public.PORT_BINDING_STATE_ACTIVE and not binding.desired.absent:
                later("UPDATE ports SET host = $2 WHERE port_id = $1", port_id, binding.host)
        case "PortBindingRemoved":
            host = network.PortBindingRemoved.FromString(event.data).host
            later("UPDATE ports SET host = '' WHERE port_id = $1 AND host = $2", port_id, host)
        case "PortFloatingIpAdded":
            added = network.PortFloatingIpAdded.FromString(event.data).floating_ip
            later(
                "INSERT INTO floating_ips VALUES ($1, $2, $3, $4)",
                port_id,
                added.floating_ip,
                added.floating_ip_address,
                added.fixed_ip_address,
            )
        case "PortFloatingIpRemoved":
            floating_ip_id = network.PortFloatingIpRemoved.FromString(event.data).floating_ip_id
            later("DELETE FROM floating_ips WHERE port_id = $1 AND floating_ip_id = $2", port_id, floating_ip_id)
        case "PortDeleted":
            later("DELETE FROM floating_ips WHERE port_id = $1", port_id)
            later("DELETE FROM fixed_ips WHERE port_id = $1", port_id)
            later("DELETE FROM ports WHERE port_id = $1", port_id)


def _port_created(later: Later, event: RecordedEvent, created: network.PortCreated) -> None:
    later(
        "INSERT INTO ports (port_id, network_id, instance_id, mac, security_groups) VALUES ($1, $2, $3, $4, $5)",
        event.aggregate_id,
        created.network_id,
        created.device_id or None,
        created.mac_address,
        list(created.security_group_ids),
    )
    _fixed_ips(later, event, created.fixed_ips)


def _fixed_ips(later: Later, event: RecordedEvent, addresses: Iterable[public.FixedIp]) -> None:
    for place, fixed in enumerate(addresses):
        later(
            "INSERT INTO fixed_ips (port_id, place, network_id, address, subnet_id)"
            " SELECT port_id, $2::int, network_id, $3::text, $4::uuid FROM ports WHERE port_id = $1",
            event.aggregate_id,
            place,
            fixed.ip_address,
            fixed.subnet,
        )


def _network(later: Later, event: RecordedEvent) -> None:
    network_id = event.aggregate_id
    match event.type.rsplit(".", 1)[-1]:
        case "NetworkCreated":
            mtu = network.NetworkCreated.FromString(event.data).mtu
            later("INSERT INTO networks VALUES ($1, $2)", network_id, mtu)
        case "NetworkUpdated":
            updated = network.NetworkUpdated.FromString(event.data)
            if "mtu" in updated.update_mask.paths:
                later("UPDATE networks SET mtu = $2 WHERE network_id = $1", network_id, updated.mtu)
        case "NetworkDeleted":
            later("DELETE FROM subnets WHERE network_id = $1", network_id)
            later("DELETE FROM networks WHERE network_id = $1", network_id)
        case "SubnetCreated":
            subnet = network.SubnetCreated.FromString(event.data)
            later(
                "INSERT INTO subnets VALUES ($1, $2, $3, $4, $5, $6)",
                subnet.subnet_id,
                network_id,
                subnet.cidr,
                subnet.gateway_ip,
                not subnet.no_dhcp,
                list(subnet.dns_nameservers),
            )
        case "SubnetUpdated":
            _subnet_updated(later, network.SubnetUpdated.FromString(event.data))
        case "SubnetDeleted":
            subnet_id = network.SubnetDeleted.FromString(event.data).subnet_id
            later("DELETE FROM subnets WHERE subnet_id = $1", subnet_id)


def _subnet_updated(later: Later, updated: network.SubnetUpdated) -> None:
    paths = updated.update_mask.paths
    if "no_dhcp" in paths:
        later("UPDATE subnets SET dhcp = $2 WHERE subnet_id = $1", updated.subnet_id, not updated.no_dhcp)
    if "dns_nameservers" in paths:
        later("UPDATE subnets SET dns = $2 WHERE subnet_id = $1", updated.subnet_id, list(updated.dns_nameservers))


def _security_group(later: Later, event: RecordedEvent) -> None:
    group_id = event.aggregate_id
    match event.type.rsplit(".", 1)[-1]:
        case "SecurityGroupCreated":
            name = network.SecurityGroupCreated.FromString(event.data).display_name
            later("INSERT INTO security_groups VALUES ($1, $2)", group_id, name)
        case "SecurityGroupUpdated":
            updated = network.SecurityGroupUpdated.FromString(event.data)
            if "display_name" in updated.update_mask.paths:
                later("UPDATE security_groups SET name = $2 WHERE group_id = $1", group_id, updated.display_name)
        case "SecurityGroupDeleted":
            later("DELETE FROM security_groups WHERE group_id = $1", group_id)
