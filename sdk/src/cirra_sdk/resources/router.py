"""Routers, and floating IPs that lead through them."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType
from typing import Any, ClassVar

from google.protobuf.field_mask_pb2 import FieldMask

from cirra.network.v1 import floating_ip_pb2, router_pb2
from cirra.network.v1.floating_ip_pb2_grpc import FloatingIpServiceStub
from cirra.network.v1.network_pb2 import Network, Port, Subnet
from cirra.network.v1.router_pb2_grpc import RouterServiceStub
from cirra_sdk.resources.collection import Collection, name_of, request_id_or_new


class Routers(Collection[router_pb2.Router]):
    """They join subnets with one another, and with the outside. `list` takes `external_network=`."""

    messages: ClassVar[ModuleType] = router_pb2
    stub_class = RouterServiceStub
    kind = "Router"

    async def create(
        self,
        display_name: str,
        *,
        external_network: Network | str = "",
        enable_snat: bool = True,
        request_id: str | None = None,
    ) -> router_pb2.Router:
        """Without interfaces. *external_network*: its way out; *enable_snat*: also for what has no floating IP."""
        router = router_pb2.Router(display_name=display_name)
        if external_network:
            router.external_gateway.network = name_of(external_network)
            router.external_gateway.enable_snat = enable_snat
        return await self._router("CreateRouter", router=router, request_id=request_id)

    async def update(
        self,
        name: router_pb2.Router | str,
        *,
        display_name: str | None = None,
        routes: Iterable[tuple[str, str]] | None = None,
        request_id: str | None = None,
    ) -> router_pb2.Router:
        """Sets what is named. *routes*: (destination, next hop) of all its static routes. Raises InvalidArgument."""
        router = router_pb2.Router(name=name_of(name), display_name=display_name or "")
        router.routes.extend(
            router_pb2.StaticRoute(destination=destination, next_hop=next_hop) for destination, next_hop in routes or ()
        )
        told = {"display_name": display_name, "routes": routes}
        mask = FieldMask(paths=[path for path, value in told.items() if value is not None])
        return await self._router("UpdateRouter", router=router, update_mask=mask, request_id=request_id)

    async def add_interface(
        self,
        name: router_pb2.Router | str,
        subnet: Subnet | str,
        *,
        ip_address: str = "",
        request_id: str | None = None,
    ) -> router_pb2.Router:
        """At the subnet's gateway_ip, or another address of it. Raises AlreadyExists where another router has it."""
        return await self._router(
            "AddRouterInterface",
            name=name_of(name),
            subnet=name_of(subnet),
            ip_address=ip_address,
            request_id=request_id,
        )

    async def remove_interface(
        self, name: router_pb2.Router | str, subnet: Subnet | str, *, request_id: str | None = None
    ) -> router_pb2.Router:
        """Raises FailedPrecondition while a floating IP or a route leads through it."""
        return await self._router(
            "RemoveRouterInterface", name=name_of(name), subnet=name_of(subnet), request_id=request_id
        )

    async def set_gateway(
        self,
        name: router_pb2.Router | str,
        network: Network | str,
        *,
        enable_snat: bool = True,
        request_id: str | None = None,
    ) -> router_pb2.Router:
        """*network*: an external one."""
        gateway = router_pb2.ExternalGateway(network=name_of(network), enable_snat=enable_snat)
        return await self._router(
            "SetRouterGateway", name=name_of(name), external_gateway=gateway, request_id=request_id
        )

    async def clear_gateway(self, name: router_pb2.Router | str, *, request_id: str | None = None) -> router_pb2.Router:
        """Raises FailedPrecondition while a floating IP or a route leads through it."""
        return await self._router("ClearRouterGateway", name=name_of(name), request_id=request_id)

    async def _router(self, rpc: str, *, request_id: str | None, **fields: Any) -> router_pb2.Router:
        router: router_pb2.Router = await self._call(rpc, **fields, request_id=request_id_or_new(request_id))
        return router


class FloatingIps(Collection[floating_ip_pb2.FloatingIp]):
    """Addresses of external networks. `list` takes `network=`, `port=` and `status=`; an address is a name."""

    messages: ClassVar[ModuleType] = floating_ip_pb2
    stub_class = FloatingIpServiceStub
    kind = "FloatingIp"

    async def create(
        self,
        network: Network | str,
        *,
        subnet: Subnet | str = "",
        floating_ip_address: str = "",
        port: Port | str = "",
        fixed_ip_address: str = "",
        request_id: str | None = None,
    ) -> floating_ip_pb2.FloatingIp:
        """An address of an external network, for the project; with *port*, it leads there at once.

        *floating_ip_address*: for administrators. Raises ResourceExhausted when none is free.
        """
        wanted = floating_ip_pb2.FloatingIp(
            network=name_of(network),
            subnet=name_of(subnet),
            floating_ip_address=floating_ip_address,
            port=name_of(port),
            fixed_ip_address=fixed_ip_address,
        )
        return await self._floating_ip("CreateFloatingIp", floating_ip=wanted, request_id=request_id)

    async def associate(
        self,
        name: floating_ip_pb2.FloatingIp | str,
        port: Port | str,
        *,
        fixed_ip_address: str = "",
        move: bool = False,
        request_id: str | None = None,
    ) -> floating_ip_pb2.FloatingIp:
        """It leads to a port. *move*: also when it leads to another now, else that is FailedPrecondition."""
        return await self._floating_ip(
            "AssociateFloatingIp",
            name=name_of(name),
            port=name_of(port),
            fixed_ip_address=fixed_ip_address,
            move=move,
            request_id=request_id,
        )

    async def disassociate(
        self, name: floating_ip_pb2.FloatingIp | str, *, request_id: str | None = None
    ) -> floating_ip_pb2.FloatingIp:
        """It leads nowhere, and stays the project's."""
        return await self._floating_ip("DisassociateFloatingIp", name=name_of(name), request_id=request_id)

    async def _floating_ip(self, rpc: str, *, request_id: str | None, **fields: Any) -> floating_ip_pb2.FloatingIp:
        found: floating_ip_pb2.FloatingIp = await self._call(rpc, **fields, request_id=request_id_or_new(request_id))
        return found
