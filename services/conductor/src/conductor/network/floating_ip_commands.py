"""Commands on floating IPs. What a port tells of those that lead to it is written in the same append."""

from __future__ import annotations

import random
from collections.abc import Sequence
from ipaddress import IPv4Address
from uuid import UUID

from cirra.conductor.v1 import router_commands_pb2_grpc
from cirra.identity.v1.identity_pb2 import Principal
from cirra.network.v1 import floating_ip_pb2 as pb
from conductor.access import is_admin, require_owner, require_project
from conductor.fields import uid
from conductor.network.addresses import parse_address
from conductor.network.external import load_external
from conductor.network.floating_ip import TARGETS, FloatingIp
from conductor.network.network import Network, Subnet
from conductor.network.port import Port
from conductor.network.port_commands import AddressHints, choose_free, with_free_addresses
from conductor.network.reach import way_to
from conductor.requests import Commands, Done, Requests, command, load_live
from core.errors import (
    AlreadyExists,
    FailedPrecondition,
    FieldViolation,
    InvalidArgument,
    PermissionDenied,
    ResourceExhausted,
)
from core.eventlog.errors import UniqueViolation
from core.ids import last_segment, uuid7
from core.repository import Repository, Saved, again_on_conflict

ADDRESS = "floating_ip.floating_ip_address"


class FloatingIpCommands(Commands, router_commands_pb2_grpc.FloatingIpCommandsServicer):
    """`rng` chooses addresses."""

    def __init__(
        self, repository: Repository, requests: Requests | None = None, rng: random.Random | None = None
    ) -> None:
        super().__init__(repository, requests)
        self._rng = rng or random.SystemRandom()

    @command(FloatingIp)
    async def CreateFloatingIp(self, request: pb.CreateFloatingIpRequest, principal: Principal) -> Done:
        project_id, wanted = require_project(principal), request.floating_ip
        if wanted.floating_ip_address and not is_admin(principal):
            raise PermissionDenied(f"{ADDRESS}: only an administrator chooses it", remedy="leave it out")
        network_id = uid("floating_ip.network", wanted.network)

        async def once(hints: AddressHints) -> Done:
            network = await load_external(self.repository, "floating_ip.network", network_id, project_id=project_id)
            subnet_id, address = await self._address(network, wanted, hints)
            floating_ip = FloatingIp.create(
                uuid7(), project_id=project_id, network_id=str(network.id), subnet_id=subnet_id, address=address
            )
            ports: list[Port] = []
            if wanted.port:
                ports = await self._lead_to(floating_ip, wanted.port, wanted.fixed_ip_address, principal, move=False)
            return Done(floating_ip, await self._save(floating_ip, ports, wanted.floating_ip_address))

        return await again_on_conflict(lambda: with_free_addresses(self.repository, self._rng, once))

    @command(FloatingIp)
    async def AssociateFloatingIp(self, request: pb.AssociateFloatingIpRequest, principal: Principal) -> Done:
        floating_ip_id = uid("name", request.name)

        async def once() -> Done:
            floating_ip = await self._owned(floating_ip_id, principal)
            ports = await self._lead_to(
                floating_ip, request.port, request.fixed_ip_address, principal, move=request.move
            )
            return Done(floating_ip, await self._save(floating_ip, ports))

        return await again_on_conflict(once)

    @command(FloatingIp)
    async def DisassociateFloatingIp(self, request: pb.DisassociateFloatingIpRequest, principal: Principal) -> Done:
        floating_ip_id = uid("name", request.name)

        async def once() -> Done:
            floating_ip = await self._owned(floating_ip_id, principal)
            ports = await self._leave(floating_ip)
            floating_ip.disassociate()
            return Done(floating_ip, await self._save(floating_ip, ports))

        return await again_on_conflict(once)

    @command(FloatingIp)
    async def DeleteFloatingIp(self, request: pb.DeleteFloatingIpRequest, principal: Principal) -> Done:
        floating_ip_id = uid("name", request.name)

        async def once() -> Done:
            floating_ip = await self._owned(floating_ip_id, principal)
            ports = await self._leave(floating_ip)
            floating_ip.delete()
            return Done(floating_ip, await self._save(floating_ip, ports))

        return await again_on_conflict(once)

    async def _owned(self, floating_ip_id: UUID, principal: Principal) -> FloatingIp:
        floating_ip = await self.repository.load(FloatingIp, floating_ip_id)
        require_owner(principal, floating_ip.project_id, f"floating IP {floating_ip_id}")
        return floating_ip

    async def _lead_to(
        self, floating_ip: FloatingIp, port: str, fixed_ip: str, principal: Principal, *, move: bool
    ) -> list[Port]:
        """Makes it lead to a port; the ports that this changes."""
        target_port = await load_live(self.repository, Port, uid("port", port))
        require_owner(principal, target_port.project_id, f"port {target_port.id}")
        before = floating_ip.target
        target = await way_to(self.repository, target_port, fixed_ip, floating_ip.network_id)
        floating_ip.associate(target, move=move)
        if floating_ip.target == before:
            return []
        left = await self._left(floating_ip, before.port_id, target_port) if before is not None else []
        target_port.add_floating_ip(floating_ip.as_of_port())
        return [target_port, *(each for each in left if each is not target_port)]

    async def _leave(self, floating_ip: FloatingIp) -> list[Port]:
        """The port that it leads to, which it shall lead to no more."""
        target = floating_ip.target
        return [] if target is None else await self._left(floating_ip, target.port_id)

    async def _left(self, floating_ip: FloatingIp, port_id: str, known: Port | None = None) -> list[Port]:
        port = known if known is not None and str(known.id) == port_id else None
        port = port or await self.repository.load(Port, UUID(port_id))
        port.remove_floating_ip(str(floating_ip.id))
        return [port]

    async def _save(self, floating_ip: FloatingIp, ports: Sequence[Port], asked: str = "") -> Saved:
        """`asked`: the address, when it was not chosen here."""
        try:
            return await self.repository.save(floating_ip, *ports)
        except UniqueViolation as violation:
            if violation.scope == TARGETS:
                raise _target_taken(violation) from violation
            if violation.key == asked:
                raise _address_taken(violation) from violation
            raise

    async def _address(self, network: Network, wanted: pb.FloatingIp, hints: AddressHints) -> tuple[str, str]:
        """Subnet and address: what is asked for, or a free one."""
        subnets = _pools(network, wanted)
        if wanted.floating_ip_address:
            return _given_address(subnets, wanted.floating_ip_address)
        try:
            chosen = await choose_free(self.repository, subnets, hints, set())
        except ResourceExhausted as error:
            raise ResourceExhausted(
                f"no address of external network {network.id} is free: {error.message}",
                reason="EXTERNAL_IP_ADDRESS_EXHAUSTED",
                remedy="give back floating IPs that are not needed, or ask an administrator for another subnet there",
                metadata={"network": str(network.id)},
            ) from error
        return chosen.subnet, chosen.ip_address


def _pools(network: Network, wanted: pb.FloatingIp) -> list[Subnet]:
    """Where its address may come from: IPv4, since nothing of IPv6 is translated."""
    subnets = [subnet for subnet in network.subnets.values() if subnet.cidr.version == 4]
    if wanted.subnet:
        subnet_id = last_segment(wanted.subnet)
        subnets = [subnet for subnet in subnets if subnet.id == subnet_id]
        if not subnets:
            raise InvalidArgument(
                FieldViolation("floating_ip.subnet", f"{subnet_id} is no IPv4 subnet of the network: give one, or none")
            )
    if not subnets:
        raise FailedPrecondition(
            f"floating_ip.network: external network {network.id} has no IPv4 subnet to take an address from",
            reason="NETWORK_HAS_NO_SUBNET",
            remedy="ask an administrator to create a subnet on it",
            metadata={"field": "floating_ip.network"},
        )
    return subnets


def _given_address(subnets: Sequence[Subnet], text: str) -> tuple[str, str]:
    address = parse_address(text)
    subnet = next((subnet for subnet in subnets if address in subnet.cidr), None) if address else None
    if subnet is None or not isinstance(address, IPv4Address):
        known = ", ".join(str(subnet.cidr) for subnet in subnets)
        raise InvalidArgument(FieldViolation(ADDRESS, f"{text!r} is no address of {known}: give one, or none"))
    if address in (subnet.cidr.network_address, subnet.cidr.broadcast_address, subnet.gateway, subnet.dhcp):
        raise InvalidArgument(FieldViolation(ADDRESS, f"{address} is not for guests in {subnet.cidr}: give another"))
    return subnet.id, str(address)


def _address_taken(violation: UniqueViolation) -> AlreadyExists:
    return AlreadyExists(
        f"{ADDRESS}: {violation.key} is in use; choose another address, or none to get a free one",
        reason="ADDRESS_IN_USE",
        remedy="choose another address, or none to get a free one",
        metadata={"field": ADDRESS, "owner": violation.owner},
    )


def _target_taken(violation: UniqueViolation) -> AlreadyExists:
    port_id, address, _ = violation.key.split("/")
    return AlreadyExists(
        f"port: floating IP {violation.owner} leads to {address} of port {port_id} already",
        reason="FIXED_IP_HAS_FLOATING_IP",
        remedy="disassociate that one first, or choose another address of the port (`fixed_ip_address`)",
        metadata={"field": "port", "owner": violation.owner},
    )
