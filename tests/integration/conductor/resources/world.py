"""A conductor's command servicers on a real log, called in the name of users."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from cirra.agent.v1.desired_pb2 import DesiredObject
from cirra.compute.v1 import compute_pb2 as compute
from cirra.conductor.v1.commands_pb2 import Accepted
from cirra.identity.v1.identity_pb2 import ROLE_ADMIN, ROLE_MEMBER, Principal, Role
from cirra.network.v1 import network_pb2 as network
from conductor.compute.catalog_commands import CatalogCommands
from conductor.identity.commands import IdentityCommands
from conductor.identity.passwords import PasswordCost, Passwords
from conductor.identity.project import Project
from conductor.image.commands import ImageCommands
from conductor.network.commands import NetworkCommands
from conductor.network.floating_ip_commands import FloatingIpCommands
from conductor.network.router_commands import RouterCommands
from conductor.network.security_group_commands import SecurityGroupCommands
from core.context import current_context
from core.eventlog.log import EventLog
from core.ids import uuid7
from core.repository import Repository
from core.rpc.context import acting_as
from core.sealing import Keyring

R = TypeVar("R")

CHEAP = PasswordCost(time_cost=1, memory_kib=8, parallelism=1)
MASTER_KEY = bytes(range(32))


class Commands:
    """One replica of the conductor, as far as commands on resources go."""

    def __init__(self, log: EventLog, seed: int) -> None:
        self.log = log
        self.repository = Repository(log, Keyring(log.pool, log.schema, MASTER_KEY), current_context)
        self.passwords = Passwords(CHEAP)
        self.identity = IdentityCommands(self.repository, self.passwords)
        self.catalog = CatalogCommands(self.repository)
        self.image = ImageCommands(self.repository)
        self.routers = RouterCommands(self.repository, rng=random.Random(seed))
        self.floating_ips = FloatingIpCommands(self.repository, rng=random.Random(seed))
        self.told: list[DesiredObject] = []
        self.network = NetworkCommands(self.repository, rng=random.Random(seed), tell=self.tell)
        self.security_groups = SecurityGroupCommands(self.repository)

    async def tell(self, desired: DesiredObject) -> None:
        self.told.append(desired)


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who calls."""

    principal: Principal

    async def call(self, method: Callable[[Any, Any], Awaitable[R]], request: Any) -> R:
        """Calls a servicer's method in the user's name."""
        with acting_as(self.principal):
            return await method(request, None)

    @property
    def project_id(self) -> str:
        return self.principal.project_id


def user(project_id: str, *roles: Role.ValueType) -> User:
    return User(Principal(user_id=str(uuid7()), user_name="ada", project_id=project_id, roles=roles))


class World:
    """Two replicas on one log, a project with a member, and an administrator."""

    def __init__(self, first: Commands, second: Commands, project_id: str) -> None:
        self.first = first
        self.second = second
        self.log = first.log
        self.repository = first.repository
        self.admin = user(project_id, ROLE_ADMIN)
        self.member = user(project_id, ROLE_MEMBER)
        self.project_id = project_id

    @classmethod
    async def make(cls, first: Commands, second: Commands) -> World:
        project = Project.create(uuid7(), "demo", limits={"ports": -1, "networks": -1})
        await first.repository.save(project)
        return cls(first, second, str(project.id))

    def replica(self, number: int) -> Commands:
        """Now one, now the other."""
        return self.second if number % 2 else self.first

    async def at_once(self, count: int, call: Callable[[int], Awaitable[R]]) -> list[R | BaseException]:
        """So many calls at the same time; answers or errors."""
        return await asyncio.gather(*(call(number) for number in range(count)), return_exceptions=True)

    async def make_subnet(self, cidr: str, *, network_name: str = "net") -> tuple[Accepted, Accepted]:
        made = await self.member.call(
            self.first.network.CreateNetwork,
            network.CreateNetworkRequest(network=network.Network(display_name=network_name)),
        )
        subnet = await self.member.call(
            self.first.network.CreateSubnet,
            network.CreateSubnetRequest(subnet=network.Subnet(network=made.name, cidr=cidr)),
        )
        return made, subnet

    async def make_port(self, network_uid: str, replica: int = 0, request_id: str = "", **fields: Any) -> Accepted:
        wanted = network.Port(network=network_uid, **fields)
        return await self.member.call(
            self.replica(replica).network.CreatePort, network.CreatePortRequest(port=wanted, request_id=request_id)
        )

    async def delete_port(self, name: str, request_id: str = "") -> Accepted:
        request = network.DeletePortRequest(name=name, request_id=request_id)
        return await self.member.call(self.first.network.DeletePort, request)

    async def make_flavor(self, name: str = "m1.small", request_id: str = "", replica: int = 0) -> Accepted:
        wanted = compute.Flavor(display_name=name, vcpus=1, memory_mib=512, disk_gib=5)
        return await self.admin.call(
            self.replica(replica).catalog.CreateFlavor,
            compute.CreateFlavorRequest(flavor=wanted, request_id=request_id),
        )


def answers(results: Iterable[R | BaseException]) -> list[R]:
    return [result for result in results if not isinstance(result, BaseException)]


def errors(results: Iterable[object]) -> list[BaseException]:
    return [result for result in results if isinstance(result, BaseException)]
