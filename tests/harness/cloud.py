"""A whole cloud in this process, for its users: gateways, conductors, placements, metadata, and hosts in memory.

    async with cloud(cell, folder) as running:
        tenant = await running.tenant()
        parts = await tenant.prepare()
        instance = await tenant.boot(parts)

Everything that a tenant does goes through the public API, by the SDK.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cirra.compute.v1 import compute_pb2 as compute
from cirra.identity.v1 import identity_pb2 as identity
from cirra.image.v1.image_pb2 import Image
from cirra.network.v1.network_pb2 import Network, Subnet
from cirra.operations.v1 import operations_pb2 as operations
from cirra_sdk import AsyncClient
from cirra_sdk.state import Memory
from core.testing.servers import Cell
from tests.harness.control_plane import PATIENCE_S, REPLICAS, ControlPlane, control_plane
from tests.harness.disks import qcow2
from tests.harness.fake_host import FakeHost
from tests.harness.planted import planted
from tests.harness.replicas import ADMIN_PASSWORD

HOSTS = ("host-1", "host-2")
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFeMg4NEbgIXJdXcdnbXcYOQhP7A9pJ1cLcYJN4w+mVq user@laptop"
# What a busy machine has kept waiting is asked for again.
RETRY_FOR_S = 60.0


class Account:
    """A user's client at one gateway. `sees`: what was written by others is read by this one."""

    def __init__(self, client: AsyncClient, memory: Memory) -> None:
        self.client = client
        self._memory = memory

    def sees(self, *others: AsyncClient) -> None:
        for other in others:
            self._memory.saw(other.position)


@dataclass(frozen=True, slots=True)
class Parts:
    """What instances are made of; all of one tenant but the flavor. `disk`: the file that was uploaded."""

    flavor: compute.Flavor
    image: Image
    network: Network
    subnet: Subnet
    disk: Path


class Tenant:
    """A project with a user of its own, who is a member."""

    def __init__(self, cloud: Cloud, project: identity.Project, user: identity.User, password: str) -> None:
        self.cloud = cloud
        self.project = project
        self.user = user
        self.password = password
        self._accounts: dict[tuple[int, float], Account] = {}

    @property
    def client(self) -> AsyncClient:
        return self.at(0)

    def at(self, gateway: int, *, retry_for_s: float = RETRY_FOR_S) -> AsyncClient:
        """The user's client of one gateway. Each remembers for itself what it has seen."""
        key = gateway, retry_for_s
        if key not in self._accounts:
            self._accounts[key] = self.cloud.account(
                self.user.display_name,
                self.password,
                self.project.display_name,
                gateway=gateway,
                retry_for_s=retry_for_s,
            )
        return self._accounts[key].client

    def catch_up(self) -> None:
        """All of the tenant's clients see what the administrator has written until now, and one another."""
        clients = [self.cloud.admin, *(account.client for account in self._accounts.values())]
        for account in self._accounts.values():
            account.sees(*clients)

    async def colleague(self, role: identity.Role.ValueType) -> AsyncClient:
        """The client of another user of this project."""
        user, password = await self.cloud.user(role, self.project)
        return self.cloud.account(user.display_name, password, self.project.display_name).client

    async def prepare(self, *, cidr: str = "10.0.0.0/24", **subnet: Any) -> Parts:
        """A flavor, an uploaded image, a network with a subnet."""
        number = self.cloud.number()
        flavor = await self.cloud.flavor()
        client = self.client
        self.catch_up()
        picture = await client.images.create(f"picture-{number}")
        picture = await client.images.upload(picture, self.cloud.disk)
        lan = await client.networks.create(f"lan-{number}")
        range_ = await client.subnets.create(f"range-{number}", network=lan, cidr=cidr, **subnet)
        self.catch_up()
        return Parts(flavor, picture, lan, range_, self.cloud.disk)

    async def create(self, parts: Parts, display_name: str = "guest", **others: Any) -> operations.Operation:
        """Begins to build an instance of the parts; what *others* name goes before them."""
        wanted = {"flavor": parts.flavor, "image": parts.image, **others}
        if not wanted.keys() & {"networks", "nics"}:
            wanted["networks"] = [parts.network]
        return await self.client.instances.create(display_name, **wanted)

    async def boot(self, parts: Parts, display_name: str = "guest", **others: Any) -> compute.Instance:
        """An instance that is ACTIVE."""
        operation = await self.create(parts, display_name, **others)
        await self.client.operations.wait(operation, timeout_s=PATIENCE_S)
        return await self.client.instances.get(operation.target)

    async def ended(self, operation: operations.Operation) -> operations.Operation:
        """The operation when it has ended, well or not."""
        async with asyncio.timeout(PATIENCE_S):
            async for change in self.client.operations.watch(operation):
                last = change
        return last

    async def usage(self) -> dict[str, int]:
        """Resource → what the project has of it, those of which it has some."""
        quotas = (await self.client.quotas.get()).quotas
        return {quota.resource: quota.usage for quota in quotas if quota.usage}


@dataclass(frozen=True, slots=True)
class Standing:
    """A tenant and its parts, which no test changes."""

    tenant: Tenant
    parts: Parts


class Cloud:
    """`disk`: a small qcow2 file. `metadata`: the address of a replica of the metadata service."""

    def __init__(self, plane: ControlPlane, folder: Path, stack: AsyncExitStack) -> None:
        self.plane = plane
        self.disk = folder / "small.qcow2"
        self.metadata = ""
        self.hosts = [FakeHost(name, plane.cell) for name in HOSTS]
        self._numbers = itertools.count(1)
        self._stack = stack

    @property
    def cell(self) -> Cell:
        return self.plane.cell

    @property
    def blob_folder(self) -> Path:
        return self.plane.blob_folder

    async def open(self) -> None:
        for _ in range(REPLICAS):
            await self.plane.start_gateway()
            self.metadata = await self.plane.start_metadata()
        self.plane.uploaded = self.blob_folder
        for host in self.hosts:
            await self.plane.add_host(host)
        await self.plane.hosts_are_up(*(host.name for host in self.hosts))
        await asyncio.to_thread(qcow2, self.disk)
        self.admin = self.account("admin", ADMIN_PASSWORD, "admin").client

    def number(self) -> int:
        """A new one at each call: what is named by it has a name of its own."""
        return next(self._numbers)

    def account(
        self,
        user: str = "",
        password: str = "",
        project: str = "",
        *,
        token: str = "",
        gateway: int = 0,
        retry_for_s: float = RETRY_FOR_S,
    ) -> Account:
        """A user's client, closed with the cloud, which sees what the administrator has written until now."""
        memory = Memory()
        client = AsyncClient.connect(
            endpoint=f"http://{self.plane.gateway_addresses[gateway]}",
            user=user,
            password=password,
            project=project,
            token=token,
            retry_for_s=retry_for_s,
            memory=memory,
        )
        self._stack.push_async_callback(client.close)
        account = Account(client, memory)
        if hasattr(self, "admin"):
            account.sees(self.admin)
        return account

    async def user(self, role: identity.Role.ValueType, project: identity.Project) -> tuple[identity.User, str]:
        """A new user with one role, and the password."""
        number = self.number()
        password = planted(f"password of {number}")
        user = await self.admin.users.create(f"user-{number}", password)
        return await self.admin.users.grant_role(user, role, project), password

    async def tenant(self, quotas: Mapping[str, int] | None = None) -> Tenant:
        """A new project with a member. `quotas`: those that differ from the usual."""
        project = await self.admin.projects.create(f"project-{self.number()}")
        if quotas:
            await self.admin.quotas.set(project, quotas)
        user, password = await self.user(identity.ROLE_MEMBER, project)
        return Tenant(self, project, user, password)

    async def flavor(self, *, vcpus: int = 1, memory_mib: int = 64, disk_gib: int = 1, **others: Any) -> compute.Flavor:
        """A new one."""
        return await self.admin.flavors.create(
            f"flavor-{self.number()}", vcpus=vcpus, memory_mib=memory_mib, disk_gib=disk_gib, **others
        )

    def reset_hosts(self) -> None:
        """They do again at once what they are told."""
        for host in self.hosts:
            host.failing.clear()
            host.failing_removal.clear()
            for event in host.holding.values():
                event.set()
            host.holding.clear()


@asynccontextmanager
async def cloud(cell: Cell, folder: Path) -> AsyncIterator[Cloud]:
    """Up until the block ends."""
    async with (
        control_plane(cell, folder) as plane,
        AsyncExitStack() as stack,
    ):
        running = Cloud(plane, folder, stack)
        await running.open()
        yield running
