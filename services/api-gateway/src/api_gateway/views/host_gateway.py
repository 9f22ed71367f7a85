"""What hosts are on external networks: shown with the host."""

from __future__ import annotations

from typing import Any

from api_gateway.views.placement import HOST
from cirra.network.v1 import events_pb2 as network
from cirra.placement.v1 import placement_pb2 as pb
from core.eventlog.types import RecordedEvent
from core.ids import host_aggregate_id


def _host_of_gateway(event: RecordedEvent, message: Any) -> str:
    return str(host_aggregate_id(message.host))


def _gateway(host: pb.Host, network_id: str) -> pb.HostGateway:
    """What the host has on an external network; new where there is none."""
    for gateway in host.gateways:
        if gateway.network == network_id:
            return gateway
    return host.gateways.add(network=network_id)


@HOST.on(network.HostGatewayOpened, of=_host_of_gateway)
def _gateway_opened(host: pb.Host, event: RecordedEvent, message: network.HostGatewayOpened) -> None:
    _gateway(host, message.network_id).mac_address = message.mac_address


@HOST.on(network.HostGatewayAddressAllocated, of=_host_of_gateway)
def _gateway_allocated(host: pb.Host, event: RecordedEvent, message: network.HostGatewayAddressAllocated) -> None:
    gateway = _gateway(host, message.network_id)
    gateway.ip_address, gateway.fault = message.ip_address, ""


@HOST.on(network.HostGatewayAddressRefused, of=_host_of_gateway)
def _gateway_refused(host: pb.Host, event: RecordedEvent, message: network.HostGatewayAddressRefused) -> None:
    _gateway(host, message.network_id).fault = f"{message.failure.reason}: {message.failure.message}"


@HOST.on(network.HostGatewayAddressReleased, of=_host_of_gateway)
def _gateway_released(host: pb.Host, event: RecordedEvent, message: network.HostGatewayAddressReleased) -> None:
    gateway = _gateway(host, message.network_id)
    gateway.ip_address, gateway.fault = "", ""


@HOST.on(network.HostGatewayClosed, of=_host_of_gateway)
def _gateway_closed(host: pb.Host, event: RecordedEvent, message: network.HostGatewayClosed) -> None:
    kept = [gateway for gateway in host.gateways if gateway.network != message.network_id]
    del host.gateways[:]
    host.gateways.extend(kept)
