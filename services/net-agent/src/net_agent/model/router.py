"""A router, whole, as each host with one of its networks has it."""

from __future__ import annotations

from dataclasses import dataclass

from cirra.agent.v1 import fabric_pb2
from net_agent.model.checker import Checker, IpAddress, IpInterface
from net_agent.model.network import DEFAULT_MTU, Route, checked_route, route_to_spec


@dataclass(frozen=True, slots=True)
class RouterInterface:
    """The same address and MAC address on every host. `bridge`: the device of its network; `mtu` in octets."""

    network_id: str
    subnet_id: str
    mac_address: str
    address: IpInterface
    bridge: str
    mtu: int


@dataclass(frozen=True, slots=True)
class ExternalGateway:
    """The way out. `host_addresses`: this host's own there, one for all routers; none as long as it has none."""

    network_id: str
    bridge: str
    mtu: int
    host_addresses: tuple[IpInterface, ...]
    host_mac_address: str
    next_hops: tuple[IpAddress, ...]
    snat: bool


@dataclass(frozen=True, slots=True)
class Router:
    router_id: str
    interfaces: tuple[RouterInterface, ...]
    routes: tuple[Route, ...]
    gateway: ExternalGateway | None


def router_from_spec(spec: fabric_pb2.RouterSpec) -> Router:
    """Raises InvalidArgument, naming each bad field."""
    check = Checker()
    router = Router(
        router_id=check.uuid("router.router_id", spec.router_id),
        interfaces=tuple(_interface(interface, check) for interface in spec.interfaces),
        routes=tuple(checked_route(route, check, "router.routes") for route in spec.routes),
        gateway=_gateway(spec.gateway, check) if spec.HasField("gateway") else None,
    )
    check.finish()
    return router


def _interface(spec: fabric_pb2.RouterInterface, check: Checker) -> RouterInterface:
    field = "router.interfaces"
    return RouterInterface(
        network_id=check.uuid(f"{field}.network_id", spec.network_id),
        subnet_id=check.uuid(f"{field}.subnet_id", spec.subnet_id),
        mac_address=check.mac_address(f"{field}.mac_address", spec.mac_address),
        address=check.interface(f"{field}.address", spec.address),
        bridge=check.device(f"{field}.bridge", spec.bridge, "brq"),
        mtu=check.mtu(f"{field}.mtu", spec.mtu or DEFAULT_MTU),
    )


def _gateway(spec: fabric_pb2.ExternalGateway, check: Checker) -> ExternalGateway:
    field = "router.gateway"
    mac_address = spec.host_mac_address
    return ExternalGateway(
        network_id=check.uuid(f"{field}.network_id", spec.network_id),
        bridge=check.device(f"{field}.bridge", spec.bridge, "brq"),
        mtu=check.mtu(f"{field}.mtu", spec.mtu or DEFAULT_MTU),
        host_addresses=tuple(check.interface(f"{field}.host_addresses", text) for text in spec.host_addresses),
        host_mac_address=check.mac_address(f"{field}.host_mac_address", mac_address) if mac_address else "",
        next_hops=tuple(check.address(f"{field}.next_hops", text) for text in spec.next_hops),
        snat=spec.snat,
    )


def router_to_spec(router: Router) -> fabric_pb2.RouterSpec:
    return fabric_pb2.RouterSpec(
        router_id=router.router_id,
        interfaces=[
            fabric_pb2.RouterInterface(
                network_id=interface.network_id,
                subnet_id=interface.subnet_id,
                mac_address=interface.mac_address,
                address=str(interface.address),
                bridge=interface.bridge,
                mtu=interface.mtu,
            )
            for interface in router.interfaces
        ],
        routes=[route_to_spec(route) for route in router.routes],
        gateway=_gateway_to_spec(router.gateway) if router.gateway is not None else None,
    )


def _gateway_to_spec(gateway: ExternalGateway) -> fabric_pb2.ExternalGateway:
    return fabric_pb2.ExternalGateway(
        network_id=gateway.network_id,
        bridge=gateway.bridge,
        mtu=gateway.mtu,
        host_addresses=[str(address) for address in gateway.host_addresses],
        host_mac_address=gateway.host_mac_address,
        next_hops=[str(address) for address in gateway.next_hops],
        snat=gateway.snat,
    )
