"""Commands on routers."""

from __future__ import annotations

import random
from collections.abc import Callable
from uuid import UUID

from cirra.conductor.v1 import router_commands_pb2_grpc
from cirra.identity.v1.identity_pb2 import Principal
from cirra.network.v1 import router_pb2 as pb
from conductor.access import is_admin, require_owner, require_project
from conductor.fields import Fields, uid
from conductor.network.addresses import parse_address
from conductor.network.external import load_external
from conductor.network.network import SUBNETS, Network, Subnet
from conductor.network.port_commands import AddressHints, choose_mac, with_free_addresses
from conductor.network.router import Interface, Router
from conductor.requests import Commands, Done, Requests, command
from core.errors import AlreadyExists, FailedPrecondition, FieldViolation, InvalidArgument, NotFound
from core.eventlog.errors import UniqueViolation
from core.ids import uuid7
from core.repository import Repository, again_on_conflict

UPDATABLE = ("display_name", "routes")


class RouterCommands(Commands, router_commands_pb2_grpc.RouterCommandsServicer):
    """`rng` chooses MAC addresses."""

    def __init__(
        self, repository: Repository, requests: Requests | None = None, rng: random.Random | None = None
    ) -> None:
        super().__init__(repository, requests)
        self._rng = rng or random.SystemRandom()

    @command(Router)
    async def CreateRouter(self, request: pb.CreateRouterRequest, principal: Principal) -> Done:
        router = Router.create(uuid7(), request.router, project_id=require_project(principal))
        if request.router.HasField("external_gateway"):
            await self._set_gateway(router, request.router.external_gateway, "router.external_gateway.network")
        return Done(router, await self.repository.save(router))

    @command(Router)
    async def UpdateRouter(self, request: pb.UpdateRouterRequest, principal: Principal) -> Done:
        fields = Fields()
        for path in request.update_mask.paths:
            if path not in UPDATABLE:
                fields.refuse("update_mask", f"{path!r} can't be changed: give {' or '.join(UPDATABLE)}")
        if not request.update_mask.paths:
            fields.refuse("update_mask", f"it is empty: name {' or '.join(UPDATABLE)}")
        fields.check()
        return await self._changed(
            uid("router.name", request.router.name),
            principal,
            lambda router: router.update(request.router, request.update_mask.paths),
        )

    @command(Router)
    async def DeleteRouter(self, request: pb.DeleteRouterRequest, principal: Principal) -> Done:
        return await self._changed(uid("name", request.name), principal, Router.delete)

    @command(Router)
    async def AddRouterInterface(self, request: pb.AddRouterInterfaceRequest, principal: Principal) -> Done:
        router_id, subnet_id = uid("name", request.name), str(uid("subnet", request.subnet))

        async def once(hints: AddressHints) -> Done:
            router = await self._owned(router_id, principal)
            network = await self._network_of(subnet_id, router, principal)
            subnet = network.subnets[subnet_id]
            address = _interface_address(subnet, request.ip_address)
            at_gateway = address == str(subnet.gateway)
            if at_gateway and network.project_id != router.project_id and not is_admin(principal):
                raise InvalidArgument(
                    FieldViolation(
                        "ip_address", f"{address} is the gateway of another project's network: give another address"
                    )
                )
            mac_address = choose_mac(str(network.id), hints)
            router.add_interface(
                Interface(str(network.id), subnet_id, subnet.cidr, address, mac_address, at_gateway=at_gateway)
            )
            try:
                return Done(router, await self.repository.save(router))
            except UniqueViolation as violation:
                if violation.key != address:
                    raise
                raise _address_taken(violation, at_gateway=at_gateway) from violation

        return await again_on_conflict(lambda: with_free_addresses(self.repository, self._rng, once))

    @command(Router)
    async def RemoveRouterInterface(self, request: pb.RemoveRouterInterfaceRequest, principal: Principal) -> Done:
        subnet_id = str(uid("subnet", request.subnet))
        return await self._changed(
            uid("name", request.name), principal, lambda router: router.remove_interface(subnet_id)
        )

    @command(Router)
    async def SetRouterGateway(self, request: pb.SetRouterGatewayRequest, principal: Principal) -> Done:
        router_id = uid("name", request.name)

        async def once() -> Done:
            router = await self._owned(router_id, principal)
            await self._set_gateway(router, request.external_gateway, "external_gateway.network")
            return Done(router, await self.repository.save(router))

        return await again_on_conflict(once)

    @command(Router)
    async def ClearRouterGateway(self, request: pb.ClearRouterGatewayRequest, principal: Principal) -> Done:
        return await self._changed(uid("name", request.name), principal, Router.clear_gateway)

    async def _set_gateway(self, router: Router, wanted: pb.ExternalGateway, field: str) -> None:
        network = await load_external(self.repository, field, uid(field, wanted.network), project_id=router.project_id)
        enable_snat = wanted.enable_snat if wanted.HasField("enable_snat") else True
        cidrs = [subnet.cidr for subnet in network.subnets.values()]
        router.set_gateway(str(network.id), cidrs, enable_snat=enable_snat)

    async def _changed(self, router_id: UUID, principal: Principal, change: Callable[[Router], None]) -> Done:
        def decide(router: Router) -> None:
            require_owner(principal, router.project_id, f"router {router.id}")
            change(router)

        router, saved = await self.repository.change(Router, router_id, decide)
        return Done(router, saved)

    async def _owned(self, router_id: UUID, principal: Principal) -> Router:
        router = await self.repository.load(Router, router_id)
        require_owner(principal, router.project_id, f"router {router.id}")
        return router

    async def _network_of(self, subnet_id: str, router: Router, principal: Principal) -> Network:
        """The network of a subnet that the router may be on."""
        network_id = await self.repository.log.unique_owner(SUBNETS, subnet_id)
        network = None if network_id is None else await self.repository.load(Network, UUID(network_id))
        seen = network is not None and (network.usable_by(router.project_id) or is_admin(principal))
        if network is None or subnet_id not in network.subnets or not (seen or network.external):
            raise NotFound(f"no subnet {subnet_id}", metadata={"field": "subnet"})
        if network.external:
            raise InvalidArgument(
                FieldViolation("subnet", f"it is of external network {network.id}: set that as the gateway instead")
            )
        return network


def _interface_address(subnet: Subnet, wanted: str) -> str:
    """The address that an interface shall have on a subnet. Raises InvalidArgument, FailedPrecondition."""
    if not wanted:
        if subnet.gateway is None:
            raise FailedPrecondition(
                f"ip_address: subnet {subnet.id} has no gateway_ip to take",
                reason="SUBNET_HAS_NO_GATEWAY",
                remedy="give an address of the subnet",
                metadata={"field": "ip_address"},
            )
        return str(subnet.gateway)
    address = parse_address(wanted)
    fields = Fields()
    if address is None or address not in subnet.cidr:
        fields.refuse("ip_address", f"{wanted!r} is no address of {subnet.cidr}: give one, or none for its gateway_ip")
    elif address in (subnet.cidr.network_address, subnet.cidr.broadcast_address):
        fields.refuse("ip_address", f"{address} is no host address of {subnet.cidr}: give another")
    elif address == subnet.dhcp:
        fields.refuse("ip_address", f"{address} is the DHCP server's: give another")
    fields.check()
    return str(address)


def _address_taken(violation: UniqueViolation, *, at_gateway: bool) -> AlreadyExists:
    if at_gateway:
        return AlreadyExists(
            f"subnet: {violation.key}, its gateway_ip, is router {violation.owner}'s already",
            reason="SUBNET_ALREADY_ROUTED",
            remedy="use that router, or give this one another address there (`ip_address`, --fixed-ip)",
            metadata={"field": "subnet", "owner": violation.owner},
        )
    return AlreadyExists(
        f"ip_address: {violation.key} is in use; choose another address",
        reason="ADDRESS_IN_USE",
        remedy="choose another address",
        metadata={"field": "ip_address", "owner": violation.owner},
    )
