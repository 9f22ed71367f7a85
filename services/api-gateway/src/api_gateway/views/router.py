"""Routers, with their interfaces."""

from __future__ import annotations

from api_gateway.views.view import Columns, View
from cirra.network.v1 import events_pb2 as events
from cirra.network.v1 import router_pb2 as pb
from core.eventlog.types import RecordedEvent

ROUTER = View(
    "router",
    pb.Router,
    # Found by where it leads to.
    columns=lambda router: Columns(
        project_id=router.project_id, about=router.external_gateway.network, display_name=router.display_name
    ),
)


@ROUTER.on(events.RouterCreated, begins=True)
def _created(router: pb.Router, event: RecordedEvent, message: events.RouterCreated) -> None:
    router.name = f"projects/{message.project_id}/routers/{router.uid}"
    router.project_id = message.project_id
    router.display_name = message.display_name


@ROUTER.on(events.RouterUpdated)
def _updated(router: pb.Router, event: RecordedEvent, message: events.RouterUpdated) -> None:
    if "display_name" in message.update_mask.paths:
        router.display_name = message.display_name
    if "routes" in message.update_mask.paths:
        del router.routes[:]
        router.routes.extend(message.routes)


@ROUTER.on(events.RouterInterfaceAdded)
def _interface_added(router: pb.Router, event: RecordedEvent, message: events.RouterInterfaceAdded) -> None:
    router.interfaces.add(
        subnet=message.subnet_id,
        network=message.network_id,
        cidr=message.cidr,
        ip_address=message.ip_address,
        mac_address=message.mac_address,
    )


@ROUTER.on(events.RouterInterfaceRemoved)
def _interface_removed(router: pb.Router, event: RecordedEvent, message: events.RouterInterfaceRemoved) -> None:
    kept = [interface for interface in router.interfaces if interface.subnet != message.subnet_id]
    del router.interfaces[:]
    router.interfaces.extend(kept)


@ROUTER.on(events.RouterGatewaySet)
def _gateway_set(router: pb.Router, event: RecordedEvent, message: events.RouterGatewaySet) -> None:
    router.external_gateway.network = message.network_id
    router.external_gateway.enable_snat = message.enable_snat


@ROUTER.on(events.RouterSnatSet)
def _snat_set(router: pb.Router, event: RecordedEvent, message: events.RouterSnatSet) -> None:
    router.external_gateway.enable_snat = message.enable_snat


@ROUTER.on(events.RouterGatewayCleared)
def _gateway_cleared(router: pb.Router, event: RecordedEvent, message: events.RouterGatewayCleared) -> None:
    router.ClearField("external_gateway")


@ROUTER.on(events.RouterDeleted, ends=True)
def _deleted(router: pb.Router, event: RecordedEvent, message: events.RouterDeleted) -> None:
    """Its last state stays."""
