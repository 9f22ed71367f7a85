"""Networks, subnets and ports. A subnet's events are on its network's stream."""

from __future__ import annotations

from api_gateway.views.view import Audience, Columns, View
from cirra.network.v1 import events_pb2 as events
from cirra.network.v1 import network_pb2 as pb
from core.eventlog.types import RecordedEvent

NETWORK = View(
    "network",
    pb.Network,
    columns=lambda network: Columns(
        project_id=network.project_id,
        display_name=network.display_name,
        public=network.shared or network.external,
    ),
    audience=Audience.PROJECT_OR_PUBLIC,
)
SUBNET = View(
    "subnet",
    pb.Subnet,
    columns=lambda subnet: Columns(
        project_id=subnet.project_id, parent=subnet.network, display_name=subnet.display_name
    ),
    audience=Audience.PROJECT_OR_PUBLIC_PARENT,
)
PORT = View(
    "port",
    pb.Port,
    columns=lambda port: Columns(
        project_id=port.project_id,
        parent=port.network,
        about=port.device_id,
        display_name=port.display_name,
        state=pb.PortStatus.Name(port.status),
    ),
)


@NETWORK.on(events.NetworkCreated, begins=True)
def _network_created(network: pb.Network, event: RecordedEvent, message: events.NetworkCreated) -> None:
    network.name = f"projects/{message.project_id}/networks/{network.uid}"
    network.project_id = message.project_id
    network.display_name = message.display_name
    network.type = message.type
    network.mtu = message.mtu
    network.physical_network = message.physical_network
    network.shared = message.shared
    network.external = message.external
    network.segmentation_id = message.segmentation_id


@NETWORK.on(events.NetworkUpdated)
def _network_updated(network: pb.Network, event: RecordedEvent, message: events.NetworkUpdated) -> None:
    for path in message.update_mask.paths:
        setattr(network, path, getattr(message, path))


@NETWORK.on(events.SubnetCreated)
def _subnet_added(network: pb.Network, event: RecordedEvent, message: events.SubnetCreated) -> None:
    network.subnets.append(message.subnet_id)


@NETWORK.on(events.SubnetDeleted)
def _subnet_removed(network: pb.Network, event: RecordedEvent, message: events.SubnetDeleted) -> None:
    network.subnets[:] = [subnet for subnet in network.subnets if subnet != message.subnet_id]


@NETWORK.on(events.NetworkDeleted, ends=True)
def _network_deleted(network: pb.Network, event: RecordedEvent, message: events.NetworkDeleted) -> None:
    """Its last state stays."""


@SUBNET.on(events.SubnetCreated, of=lambda event, message: message.subnet_id, begins=True)
def _subnet_created(subnet: pb.Subnet, event: RecordedEvent, message: events.SubnetCreated) -> None:
    subnet.name = f"projects/{message.project_id}/subnets/{subnet.uid}"
    subnet.project_id = message.project_id
    subnet.network = message.network_id
    subnet.display_name = message.display_name
    subnet.cidr = message.cidr
    subnet.gateway_ip = message.gateway_ip
    subnet.no_gateway = not message.gateway_ip
    subnet.allocation_pools.extend(message.allocation_pools)
    subnet.dns_nameservers.extend(message.dns_nameservers)
    subnet.dhcp_ip = message.dhcp_ip
    subnet.no_dhcp = message.no_dhcp
    subnet.host_routes.extend(message.host_routes)


@SUBNET.on(events.SubnetUpdated, of=lambda event, message: message.subnet_id)
def _subnet_updated(subnet: pb.Subnet, event: RecordedEvent, message: events.SubnetUpdated) -> None:
    for path in message.update_mask.paths:
        if path in ("display_name", "no_dhcp"):
            setattr(subnet, path, getattr(message, path))
        else:
            kept = getattr(subnet, path)
            del kept[:]
            kept.extend(getattr(message, path))


@SUBNET.on(events.SubnetDeleted, of=lambda event, message: message.subnet_id, ends=True)
def _subnet_deleted(subnet: pb.Subnet, event: RecordedEvent, message: events.SubnetDeleted) -> None:
    """Its last state stays."""


@PORT.on(events.PortCreated, begins=True)
def _port_created(port: pb.Port, event: RecordedEvent, message: events.PortCreated) -> None:
    port.name = f"projects/{message.project_id}/ports/{port.uid}"
    port.project_id = message.project_id
    port.network = message.network_id
    port.mac_address = message.mac_address
    port.device_id = message.device_id
    port.status = pb.PORT_STATUS_DOWN
    _described(port, message)


@PORT.on(events.PortUpdated)
def _port_updated(port: pb.Port, event: RecordedEvent, message: events.PortUpdated) -> None:
    _described(port, message)
    gone = {fixed.ip_address for fixed in message.released_fixed_ips}
    if port.leased_ip in gone:
        port.ClearField("leased_ip")
        port.ClearField("lease_time")
    if port.seen_ip in gone:
        port.ClearField("seen_ip")
        port.ClearField("seen_time")


def _described(port: pb.Port, message: events.PortCreated | events.PortUpdated) -> None:
    port.display_name = message.display_name
    del port.fixed_ips[:]
    port.fixed_ips.extend(message.fixed_ips)
    # Unlimited is said by its absence.
    port.ClearField("qos")
    if message.qos != pb.BandwidthLimits():
        port.qos.CopyFrom(message.qos)
    port.security_groups[:] = message.security_group_ids
    del port.allowed_address_pairs[:]
    port.allowed_address_pairs.extend(message.allowed_address_pairs)
    port.port_security_enabled = not message.port_security_disabled


@PORT.on(events.PortDeviceSet)
def _device_set(port: pb.Port, event: RecordedEvent, message: events.PortDeviceSet) -> None:
    port.device_id = message.device_id


@PORT.on(events.PortBindingDesired)
def _binding_desired(port: pb.Port, event: RecordedEvent, message: events.PortBindingDesired) -> None:
    binding = port.bindings[message.host]
    binding.state = message.state
    if message.desired.absent:
        binding.wired = False
    port.status = _status(port)


@PORT.on(events.PortBindingObserved)
def _binding_observed(port: pb.Port, event: RecordedEvent, message: events.PortBindingObserved) -> None:
    if message.host not in port.bindings:
        return
    port.bindings[message.host].wired = message.observed.wired
    failed = message.HasField("failure") and not message.observed.wired
    port.status = pb.PORT_STATUS_ERROR if failed else _status(port)


@PORT.on(events.PortBindingRemoved)
def _binding_removed(port: pb.Port, event: RecordedEvent, message: events.PortBindingRemoved) -> None:
    if message.host in port.bindings:
        del port.bindings[message.host]
    port.status = _status(port)


@PORT.on(events.PortLeaseSeen)
def _lease_seen(port: pb.Port, event: RecordedEvent, message: events.PortLeaseSeen) -> None:
    port.leased_ip = message.ip_address
    port.lease_time.FromDatetime(event.recorded_at)


@PORT.on(events.PortAddressSeen)
def _address_seen(port: pb.Port, event: RecordedEvent, message: events.PortAddressSeen) -> None:
    # One is shown: IPv4, if the guest uses that.
    if ":" in message.ip_address and port.seen_ip and ":" not in port.seen_ip:
        return
    port.seen_ip = message.ip_address
    port.seen_time.FromDatetime(event.recorded_at)


@PORT.on(events.PortFloatingIpAdded)
def _floating_ip_added(port: pb.Port, event: RecordedEvent, message: events.PortFloatingIpAdded) -> None:
    port.floating_ips.append(message.floating_ip)


@PORT.on(events.PortFloatingIpRemoved)
def _floating_ip_removed(port: pb.Port, event: RecordedEvent, message: events.PortFloatingIpRemoved) -> None:
    kept = [floating_ip for floating_ip in port.floating_ips if floating_ip.floating_ip != message.floating_ip_id]
    del port.floating_ips[:]
    port.floating_ips.extend(kept)


@PORT.on(events.PortDeleted, ends=True)
def _port_deleted(port: pb.Port, event: RecordedEvent, message: events.PortDeleted) -> None:
    port.status = pb.PORT_STATUS_DOWN


def _status(port: pb.Port) -> pb.PortStatus.ValueType:
    """ACTIVE when it is wired where its active binding is."""
    wired = any(binding.wired and binding.state == pb.PORT_BINDING_STATE_ACTIVE for binding in port.bindings.values())
    return pb.PORT_STATUS_ACTIVE if wired else pb.PORT_STATUS_DOWN
