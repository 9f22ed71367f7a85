"""What the service knows: instances, ports, networks and subnets, projected from the log.

User data stays sealed in here: it is opened when its guest asks, and can't be once the instance is gone.
"""

from __future__ import annotations

import asyncpg

from cirra.compute.v1 import events_pb2 as compute
from cirra.network.v1 import events_pb2 as network
from cirra.network.v1 import network_pb2 as public
from core.eventlog.types import RecordedEvent

DDL = """
CREATE TABLE instances (instance_id uuid PRIMARY KEY, created bytea NOT NULL, zone text NOT NULL DEFAULT '');
CREATE TABLE ports (
    port_id uuid PRIMARY KEY, network_id uuid NOT NULL, instance_id uuid, host text NOT NULL DEFAULT '',
    addresses text[] NOT NULL, subnets uuid[] NOT NULL, mac text NOT NULL
);
CREATE INDEX ports_by_address ON ports USING gin (addresses);
CREATE INDEX ports_by_instance ON ports (instance_id);
CREATE TABLE networks (network_id uuid PRIMARY KEY, mtu int NOT NULL);
CREATE TABLE subnets (
    subnet_id uuid PRIMARY KEY, network_id uuid NOT NULL, cidr text NOT NULL, gateway text NOT NULL, dns text[] NOT NULL
);
"""


class DocumentsProjection:
    """Projection `metadata-documents`."""

    name = "metadata-documents"
    version = 1
    ddl = DDL

    async def reset(self, connection: asyncpg.Connection) -> None:
        await connection.execute("DROP TABLE IF EXISTS instances, ports, networks, subnets")

    async def apply(self, connection: asyncpg.Connection, event: RecordedEvent) -> None:
        match event.aggregate_type:
            case "instance":
                await _instance(connection, event)
            case "port":
                await _port(connection, event)
            case "network":
                await _network(connection, event)


async def _instance(connection: asyncpg.Connection, event: RecordedEvent) -> None:
    match event.type.rsplit(".", 1)[-1]:
        case "InstanceCreated":
            zone = compute.InstanceCreated.FromString(event.data).availability_zone
            await connection.execute("INSERT INTO instances VALUES ($1, $2, $3)", event.aggregate_id, event.data, zone)
        case "InstanceHostAssigned":
            zone = compute.InstanceHostAssigned.FromString(event.data).availability_zone
            await connection.execute("UPDATE instances SET zone = $2 WHERE instance_id = $1", event.aggregate_id, zone)
        case "InstanceDeleted":
            await connection.execute("DELETE FROM instances WHERE instance_id = $1", event.aggregate_id)


async def _port(connection: asyncpg.Connection, event: RecordedEvent) -> None:
    port_id = event.aggregate_id
    match event.type.rsplit(".", 1)[-1]:
        case "PortCreated":
            created = network.PortCreated.FromString(event.data)
            await connection.execute(
                "INSERT INTO ports VALUES ($1, $2, $3, '', $4, $5, $6)",
                port_id,
                created.network_id,
                created.device_id or None,
                [fixed.ip_address for fixed in created.fixed_ips],
                [fixed.subnet for fixed in created.fixed_ips],
                created.mac_address,
            )
        case "PortDeviceSet":
            device_id = network.PortDeviceSet.FromString(event.data).device_id or None
            await connection.execute("UPDATE ports SET instance_id = $2 WHERE port_id = $1", port_id, device_id)
        case "PortBindingDesired":
            binding = network.PortBindingDesired.FromString(event.data)
            if binding.state == public.PORT_BINDING_STATE_ACTIVE and not binding.desired.absent:
                await connection.execute("UPDATE ports SET host = $2 WHERE port_id = $1", port_id, binding.host)
        case "PortBindingRemoved":
            host = network.PortBindingRemoved.FromString(event.data).host
            await connection.execute("UPDATE ports SET host = '' WHERE port_id = $1 AND host = $2", port_id, host)
        case "PortDeleted":
            await connection.execute("DELETE FROM ports WHERE port_id = $1", port_id)


async def _network(connection: asyncpg.Connection, event: RecordedEvent) -> None:
    match event.type.rsplit(".", 1)[-1]:
        case "NetworkCreated":
            mtu = network.NetworkCreated.FromString(event.data).mtu
            await connection.execute("INSERT INTO networks VALUES ($1, $2)", event.aggregate_id, mtu)
        case "SubnetCreated":
            subnet = network.SubnetCreated.FromString(event.data)
            await connection.execute(
                "INSERT INTO subnets VALUES ($1, $2, $3, $4, $5)",
                subnet.subnet_id,
                event.aggregate_id,
                subnet.cidr,
                subnet.gateway_ip,
                list(subnet.dns_nameservers),
            )
        case "SubnetDeleted":
            subnet_id = network.SubnetDeleted.FromString(event.data).subnet_id
            await connection.execute("DELETE FROM subnets WHERE subnet_id = $1", subnet_id)
        case "NetworkDeleted":
            await connection.execute("DELETE FROM subnets WHERE network_id = $1", event.aggregate_id)
            await connection.execute("DELETE FROM networks WHERE network_id = $1", event.aggregate_id)
