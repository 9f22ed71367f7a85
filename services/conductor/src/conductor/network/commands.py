"""Commands on networks, subnets and ports."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from uuid import UUID

from cirra.agent.v1.desired_pb2 import DesiredObject
from cirra.conductor.v1 import commands_pb2_grpc
from cirra.identity.v1.identity_pb2 import Principal
from cirra.network.v1 import events_pb2
from cirra.network.v1 import network_pb2 as pb
from conductor.access import is_admin, require_admin, require_owner, require_project
from conductor.fields import Fields, uid
from conductor.network import network, subnet
from conductor.network.network import SUBNETS, Network
from conductor.network.network_commands import create_network, require_may_ask
from conductor.network.port import Port
from conductor.network.port_changes import UPDATABLE, changed_terms
from conductor.network.port_commands import AddressHints, WantedPort, new_port, with_free_addresses
from conductor.network.port_notices import tell_hosts
from conductor.network.port_security import wanted_security
from conductor.network.segments import DEFAULT_SEGMENTS, Segments
from conductor.network.slaac import take_back
from conductor.requests import Commands, Done, Requests, command, load_live
from conductor.updates import check_etag, check_mask, require_unchanged
from conductor.violations import network_in_use
from core.errors import NotFound
from core.eventlog.errors import LimitExceeded
from core.eventlog.types import RecordedEvent
from core.ids import uuid7
from core.repository import Repository, again_on_conflict


def _subnet_created(network: Network, event: RecordedEvent) -> tuple[str, str]:
    subnet_id = events_pb2.SubnetCreated.FromString(event.data).subnet_id
    return subnet_id, network.subnet_name(subnet_id)


def _subnet_updated(network: Network, event: RecordedEvent) -> tuple[str, str]:
    subnet_id = events_pb2.SubnetUpdated.FromString(event.data).subnet_id
    return subnet_id, network.subnet_name(subnet_id)


def _subnet_deleted(network: Network, event: RecordedEvent) -> tuple[str, str]:
    subnet_id = events_pb2.SubnetDeleted.FromString(event.data).subnet_id
    return subnet_id, network.subnet_name(subnet_id)


class NetworkCommands(Commands, commands_pb2_grpc.NetworkCommandsServicer):
    """`rng` chooses addresses and segments; `tell` tells a host of desired state that has changed."""

    def __init__(
        self,
        repository: Repository,
        requests: Requests | None = None,
        rng: random.Random | None = None,
        *,
        segments: Segments = DEFAULT_SEGMENTS,
        tell: Callable[[DesiredObject], Awaitable[None]],
    ) -> None:
        super().__init__(repository, requests)
        self._tell = tell
        self._rng = rng or random.SystemRandom()
        self._segments = segments

    @command(Network)
    async def CreateNetwork(self, request: pb.CreateNetworkRequest, principal: Principal) -> Done:
        project_id = require_project(principal)
        require_may_ask(principal, request.network, self._segments)
        made, saved = await create_network(
            self.repository, request.network, self._segments, project_id=project_id, rng=self._rng
        )
        return Done(made, saved)

    @command(Network)
    async def UpdateNetwork(self, request: pb.UpdateNetworkRequest, principal: Principal) -> Done:
        _check_update(request, network.UPDATABLE)
        network_id = uid("network.name", request.network.name)

        async def once() -> Done:
            found = await load_live(self.repository, Network, network_id)
            _require_owner(principal, found)
            await require_unchanged(self.repository.log, found, request.etag)
            found.update(request.network, request.update_mask.paths, segments=self._segments)
            return Done(found, await self.repository.save(found))

        return await again_on_conflict(once)

    @command(Network)
    async def DeleteNetwork(self, request: pb.DeleteNetworkRequest, principal: Principal) -> Done:
        def delete(network: Network) -> None:
            _require_owner(principal, network)
            network.delete()

        network_id = uid("name", request.name)
        try:
            found, saved = await self.repository.change(Network, network_id, delete)
        except LimitExceeded as error:
            raise network_in_use(network_id, error) from error
        return Done(found, saved)

    @command(Network, part=_subnet_created)
    async def CreateSubnet(self, request: pb.CreateSubnetRequest, principal: Principal) -> Done:
        subnet_id = uuid7()

        def add(network: Network) -> None:
            _require_owner(principal, network)
            network.add_subnet(subnet_id, request.subnet)

        network_id = uid("subnet.network", request.subnet.network)
        found, saved = await self.repository.change(Network, network_id, add)
        return Done(found, saved, part=(str(subnet_id), found.subnet_name(str(subnet_id))))

    @command(Network, part=_subnet_updated)
    async def UpdateSubnet(self, request: pb.UpdateSubnetRequest, principal: Principal) -> Done:
        _check_update(request, subnet.UPDATABLE)
        subnet_id = str(uid("subnet.name", request.subnet.name))
        network_id = await self._network_of(subnet_id)

        async def once() -> Done:
            found = await load_live(self.repository, Network, network_id)
            require_owner(principal, found.project_id, f"subnet {subnet_id}")
            await require_unchanged(self.repository.log, found, request.etag, found.subnet(subnet_id).version)
            found.update_subnet(subnet_id, request.subnet, request.update_mask.paths)
            saved = await self.repository.save(found)
            return Done(found, saved, part=(subnet_id, found.subnet_name(subnet_id)))

        return await again_on_conflict(once)

    @command(Network, part=_subnet_deleted)
    async def DeleteSubnet(self, request: pb.DeleteSubnetRequest, principal: Principal) -> Done:
        subnet_id = str(uid("name", request.name))

        def delete(network: Network) -> None:
            require_owner(principal, network.project_id, f"subnet {subnet_id}")
            network.delete_subnet(subnet_id)

        network_id = await self._network_of(subnet_id)
        before = await load_live(self.repository, Network, network_id)
        require_owner(principal, before.project_id, f"subnet {subnet_id}")
        await take_back(self.repository, before, subnet_id, self._tell)
        found, saved = await self.repository.change(Network, network_id, delete)
        return Done(found, saved, part=(subnet_id, found.subnet_name(subnet_id)))

    @command(Port)
    async def CreatePort(self, request: pb.CreatePortRequest, principal: Principal) -> Done:
        project_id = require_project(principal)
        wanted = WantedPort(
            project_id=project_id,
            network_id=str(uid("port.network", request.port.network)),
            fixed_ips=request.port.fixed_ips,
            mac_address=request.port.mac_address,
            display_name=request.port.display_name,
            security=await wanted_security(self.repository, request.port, project_id),
            qos=request.port.qos if request.port.HasField("qos") else None,
        )

        async def once(hints: AddressHints) -> Done:
            port = await new_port(self.repository, wanted, hints)
            return Done(port, await self.repository.save(port, *hints.default_groups.values()))

        return await with_free_addresses(self.repository, self._rng, once)

    @command(Port)
    async def UpdatePort(self, request: pb.UpdatePortRequest, principal: Principal) -> Done:
        """Its hosts are told at once; one that misses it finds it by its next look at what is desired."""
        _check_update(request, UPDATABLE)
        port_id = uid("port.name", request.port.name)

        async def once(hints: AddressHints) -> Done:
            port = await load_live(self.repository, Port, port_id)
            require_owner(principal, port.project_id, f"port {port_id}")
            await require_unchanged(self.repository.log, port, request.etag)
            port.update(await changed_terms(self.repository, port, request, hints))
            saved = await self.repository.save(port)
            if saved.position:
                await tell_hosts(port, self._tell)
            return Done(port, saved)

        return await again_on_conflict(lambda: with_free_addresses(self.repository, self._rng, once))

    @command(Port)
    async def DeletePort(self, request: pb.DeletePortRequest, principal: Principal) -> Done:
        def delete(port: Port) -> None:
            require_owner(principal, port.project_id, f"port {port.id}")
            port.delete()

        port, saved = await self.repository.change(Port, uid("name", request.name), delete)
        return Done(port, saved)

    async def _network_of(self, subnet_id: str) -> UUID:
        """Raises NotFound."""
        network_id = await self.repository.log.unique_owner(SUBNETS, subnet_id)
        if network_id is None:
            raise NotFound(f"no subnet {subnet_id}")
        return UUID(network_id)


def _check_update(
    request: pb.UpdateNetworkRequest | pb.UpdateSubnetRequest | pb.UpdatePortRequest, updatable: tuple[str, ...]
) -> None:
    fields = Fields()
    check_mask(fields, request.update_mask.paths, updatable)
    check_etag(fields, request.etag)
    fields.check()


def _require_owner(principal: Principal, network: Network) -> None:
    """A shared or external network is seen by all, and changed by administrators and its own project."""
    if (
        (network.shared or network.external)
        and not is_admin(principal)
        and network.project_id != require_project(principal)
    ):
        require_admin(principal)
    require_owner(principal, network.project_id, f"network {network.id}")
