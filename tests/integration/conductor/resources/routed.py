"""Routers and floating IPs, asked for in the name of users."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from cirra.conductor.v1.commands_pb2 import Accepted
from cirra.network.v1 import floating_ip_pb2 as floating
from cirra.network.v1 import network_pb2 as network
from cirra.network.v1 import router_pb2 as router
from conductor.network.floating_ip import FloatingIp
from conductor.network.port import Port
from conductor.network.router import Router
from tests.integration.conductor.resources.world import User, World


@dataclass(frozen=True, slots=True)
class Way:
    """A router between a subnet and an external network."""

    external: Accepted
    pool: Accepted
    router: Accepted
    network: Accepted
    subnet: Accepted


class Routed:
    """Calls on a world, by its member unless told otherwise."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.commands = world.first.routers

    async def external(self, cidr: str = "203.0.113.0/24", **fields: Any) -> tuple[Accepted, Accepted]:
        """An external network and a subnet of it."""
        world = self.world
        wanted = network.Network(display_name="internet", external=True)
        request = network.CreateNetworkRequest(network=wanted)
        made = await world.admin.call(world.first.network.CreateNetwork, request)
        subnet = network.CreateSubnetRequest(subnet=network.Subnet(network=made.uid, cidr=cidr, **fields))
        return made, await world.admin.call(world.first.network.CreateSubnet, subnet)

    async def router(self, external: str = "", *, who: User | None = None, **fields: Any) -> Accepted:
        wanted = router.Router(display_name="edge", **fields)
        if external:
            wanted.external_gateway.network = external
        request = router.CreateRouterRequest(router=wanted)
        return await (who or self.world.member).call(self.commands.CreateRouter, request)

    async def add(
        self,
        name: str,
        subnet: str,
        *,
        ip_address: str = "",
        who: User | None = None,
        replica: int = 0,
        request_id: str = "",
    ) -> Accepted:
        wanted = router.AddRouterInterfaceRequest(
            name=name, subnet=subnet, ip_address=ip_address, request_id=request_id
        )
        return await (who or self.world.member).call(self.world.replica(replica).routers.AddRouterInterface, wanted)

    async def remove(self, name: str, subnet: str) -> Accepted:
        request = router.RemoveRouterInterfaceRequest(name=name, subnet=subnet)
        return await self.world.member.call(self.commands.RemoveRouterInterface, request)

    async def set_gateway(self, name: str, external: str, **fields: Any) -> Accepted:
        gateway = router.ExternalGateway(network=external, **fields)
        request = router.SetRouterGatewayRequest(name=name, external_gateway=gateway)
        return await self.world.member.call(self.commands.SetRouterGateway, request)

    async def clear_gateway(self, name: str) -> Accepted:
        request = router.ClearRouterGatewayRequest(name=name)
        return await self.world.member.call(self.commands.ClearRouterGateway, request)

    async def delete(self, name: str) -> Accepted:
        return await self.world.member.call(self.commands.DeleteRouter, router.DeleteRouterRequest(name=name))

    async def way(self, cidr: str = "10.0.0.0/24", pool: str = "203.0.113.0/24", **fields: Any) -> Way:
        external, pool_of = await self.external(pool, **fields)
        inner, subnet = await self.world.make_subnet(cidr)
        made = await self.router(external.uid)
        await self.add(made.uid, subnet.uid)
        return Way(external, pool_of, made, inner, subnet)

    async def floating_ip(
        self, external: str, *, who: User | None = None, replica: int = 0, request_id: str = "", **fields: Any
    ) -> Accepted:
        wanted = floating.FloatingIp(network=external, **fields)
        request = floating.CreateFloatingIpRequest(floating_ip=wanted, request_id=request_id)
        return await (who or self.world.member).call(self.world.replica(replica).floating_ips.CreateFloatingIp, request)

    async def associate(
        self, name: str, port: str, *, who: User | None = None, replica: int = 0, request_id: str = "", **fields: Any
    ) -> Accepted:
        request = floating.AssociateFloatingIpRequest(name=name, port=port, request_id=request_id, **fields)
        method = self.world.replica(replica).floating_ips.AssociateFloatingIp
        return await (who or self.world.member).call(method, request)

    async def disassociate(self, name: str) -> Accepted:
        request = floating.DisassociateFloatingIpRequest(name=name)
        return await self.world.member.call(self.world.first.floating_ips.DisassociateFloatingIp, request)

    async def give_back(self, name: str, who: User | None = None) -> Accepted:
        request = floating.DeleteFloatingIpRequest(name=name)
        return await (who or self.world.member).call(self.world.first.floating_ips.DeleteFloatingIp, request)

    async def load_router(self, uid: str) -> Router:
        return await self.world.repository.load(Router, UUID(uid))

    async def load_floating_ip(self, uid: str) -> FloatingIp:
        return await self.world.repository.load(FloatingIp, UUID(uid))

    async def load_port(self, uid: str) -> Port:
        return await self.world.repository.load(Port, UUID(uid))
