"""Commands on networks, subnets and ports."""

from __future__ import annotations

import random
from uuid import UUID

from cirra.conductor.v1 import commands_pb2_grpc
from cirra.identity.v1.identity_pb2 import Principal
from cirra.network.v1 import events_pb2
from cirra.network.v1 import network_pb2 as pb
from conductor.access import is_admin, require_admin, require_owner, require_project
from conductor.fields import uid
from conductor.network.network import SUBNETS, Network
from conductor.network.port import Port
from conductor.network.port_commands import AddressHints, WantedPort, new_port, with_free_addresses
from conductor.requests import Commands, Done, Requests, command
from conductor.violations import network_in_use
from core.errors import NotFound, PermissionDenied
from core.eventlog.errors import LimitExceeded
from core.eventlog.types import RecordedEvent
from core.ids import uuid7
from core.repository import Repository


def _subnet_created(network: Network, event: RecordedEvent) -> tuple[str, str]:
    subnet_id = events_pb2.SubnetCreated.FromString(event.data).subnet_id
    return subnet_id, network.subnet_name(subnet_id)


def _subnet_deleted(network: Network, event: RecordedEvent) -> tuple[str, str]:
    subnet_id = events_pb2.SubnetDeleted.FromString(event.data).subnet_id
    return subnet_id, network.subnet_name(subnet_id)


class NetworkCommands(Commands, commands_pb2_grpc.NetworkCommandsServicer):
    """`rng` chooses addresses."""

    def __init__(
        self, repository: Repository, requests: Requests | None = None, rng: random.Random | None = None
    ) -> None:
        super().__init__(repository, requests)
        self._rng = rng or random.SystemRandom()

    @command(Network)
    async def CreateNetwork(self, request: pb.CreateNetworkRequest, principal: Principal) -> Done:
        project_id = require_project(principal)
        for field in ("shared", "external", "physical_network"):
            if getattr(request.network, field) and not is_admin(principal):
                raise PermissionDenied(f"network.{field}: only an administrator sets it", remedy="leave it out")
        network = Network.create(uuid7(), request.network, project_id=project_id)
        return Done(network, await self.repository.save(network))

    @command(Network)
    async def DeleteNetwork(self, request: pb.DeleteNetworkRequest, principal: Principal) -> Done:
        def delete(network: Network) -> None:
            _require_owner(principal, network)
            network.delete()

        network_id = uid("name", request.name)
        try:
            network, saved = await self.repository.change(Network, network_id, delete)
        except LimitExceeded as error:
            raise network_in_use(network_id, error) from error
        return Done(network, saved)

    @command(Network, part=_subnet_created)
    async def CreateSubnet(self, request: pb.CreateSubnetRequest, principal: Principal) -> Done:
        subnet_id = uuid7()

        def add(network: Network) -> None:
            _require_owner(principal, network)
            network.add_subnet(subnet_id, request.subnet)

        network_id = uid("subnet.network", request.subnet.network)
        network, saved = await self.repository.change(Network, network_id, add)
        return Done(network, saved, part=(str(subnet_id), network.subnet_name(str(subnet_id))))

    @command(Network, part=_subnet_deleted)
    async def DeleteSubnet(self, request: pb.DeleteSubnetRequest, principal: Principal) -> Done:
        subnet_id = str(uid("name", request.name))
        network_id = await self.repository.log.unique_owner(SUBNETS, subnet_id)
        if network_id is None:
            raise NotFound(f"no subnet {subnet_id}")

        def delete(network: Network) -> None:
            require_owner(principal, network.project_id, f"subnet {subnet_id}")
            network.delete_subnet(subnet_id)

        network, saved = await self.repository.change(Network, UUID(network_id), delete)
        return Done(network, saved, part=(subnet_id, network.subnet_name(subnet_id)))

    @command(Port)
    async def CreatePort(self, request: pb.CreatePortRequest, principal: Principal) -> Done:
        wanted = WantedPort(
            project_id=require_project(principal),
            network_id=str(uid("port.network", request.port.network)),
            fixed_ips=request.port.fixed_ips,
            mac_address=request.port.mac_address,
            display_name=request.port.display_name,
        )

        async def once(hints: AddressHints) -> Done:
            port = await new_port(self.repository, wanted, hints)
            return Done(port, await self.repository.save(port))

        return await with_free_addresses(self.repository, self._rng, once)

    @command(Port)
    async def DeletePort(self, request: pb.DeletePortRequest, principal: Principal) -> Done:
        def delete(port: Port) -> None:
            require_owner(principal, port.project_id, f"port {port.id}")
            port.delete()

        port, saved = await self.repository.change(Port, uid("name", request.name), delete)
        return Done(port, saved)


def _require_owner(principal: Principal, network: Network) -> None:
    """A shared or external network is seen by all, and changed by administrators and its own project."""
    if (
        (network.shared or network.external)
        and not is_admin(principal)
        and network.project_id != require_project(principal)
    ):
        require_admin(principal)
    require_owner(principal, network.project_id, f"network {network.id}")
