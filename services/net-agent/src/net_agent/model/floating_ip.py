"""A floating IP, on the host of the port that it leads to."""

from __future__ import annotations

from dataclasses import dataclass

from cirra.agent.v1 import fabric_pb2
from net_agent.model.checker import Checker, IpAddress


@dataclass(frozen=True, slots=True)
class FloatingIp:
    """`external_network_id`: the network that the floating address is of."""

    floating_ip_id: str
    floating_address: IpAddress
    fixed_address: IpAddress
    port_id: str
    router_id: str
    external_network_id: str


def floating_ip_from_spec(spec: fabric_pb2.FloatingIpSpec) -> FloatingIp:
    """Raises InvalidArgument, naming each bad field."""
    check = Checker()
    floating_ip = FloatingIp(
        floating_ip_id=check.uuid("floating_ip.floating_ip_id", spec.floating_ip_id),
        floating_address=check.address("floating_ip.floating_ip_address", spec.floating_ip_address),
        fixed_address=check.address("floating_ip.fixed_ip_address", spec.fixed_ip_address),
        port_id=check.uuid("floating_ip.port_id", spec.port_id),
        router_id=check.uuid("floating_ip.router_id", spec.router_id),
        external_network_id=check.uuid("floating_ip.external_network_id", spec.external_network_id),
    )
    check.finish()
    return floating_ip


def floating_ip_to_spec(floating_ip: FloatingIp) -> fabric_pb2.FloatingIpSpec:
    return fabric_pb2.FloatingIpSpec(
        floating_ip_id=floating_ip.floating_ip_id,
        floating_ip_address=str(floating_ip.floating_address),
        fixed_ip_address=str(floating_ip.fixed_address),
        port_id=floating_ip.port_id,
        router_id=floating_ip.router_id,
        external_network_id=floating_ip.external_network_id,
    )
