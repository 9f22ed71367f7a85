"""Floating IPs. People call them by their addresses."""

from __future__ import annotations

from api_gateway.views.view import Columns, View
from cirra.network.v1 import events_pb2 as events
from cirra.network.v1 import floating_ip_pb2 as pb
from core.eventlog.types import RecordedEvent

FLOATING_IP = View(
    "floating_ip",
    pb.FloatingIp,
    columns=lambda floating_ip: Columns(
        project_id=floating_ip.project_id,
        parent=floating_ip.network,
        about=floating_ip.port,
        display_name=floating_ip.floating_ip_address,
        state=pb.FloatingIpStatus.Name(floating_ip.status),
    ),
    title="floating IP",
)


@FLOATING_IP.on(events.FloatingIpCreated, begins=True)
def _created(floating_ip: pb.FloatingIp, event: RecordedEvent, message: events.FloatingIpCreated) -> None:
    floating_ip.name = f"projects/{message.project_id}/floatingIps/{floating_ip.uid}"
    floating_ip.project_id = message.project_id
    floating_ip.network = message.network_id
    floating_ip.subnet = message.subnet_id
    floating_ip.floating_ip_address = message.floating_ip_address
    floating_ip.status = pb.FLOATING_IP_STATUS_DOWN


@FLOATING_IP.on(events.FloatingIpAssociated)
def _associated(floating_ip: pb.FloatingIp, event: RecordedEvent, message: events.FloatingIpAssociated) -> None:
    floating_ip.port = message.port_id
    floating_ip.fixed_ip_address = message.fixed_ip_address
    floating_ip.router = message.router_id
    floating_ip.status = pb.FLOATING_IP_STATUS_ACTIVE


@FLOATING_IP.on(events.FloatingIpDisassociated)
def _disassociated(floating_ip: pb.FloatingIp, event: RecordedEvent, message: events.FloatingIpDisassociated) -> None:
    for field in ("port", "fixed_ip_address", "router"):
        floating_ip.ClearField(field)
    floating_ip.status = pb.FLOATING_IP_STATUS_DOWN


@FLOATING_IP.on(events.FloatingIpDeleted, ends=True)
def _deleted(floating_ip: pb.FloatingIp, event: RecordedEvent, message: events.FloatingIpDeleted) -> None:
    """Its last state stays."""
