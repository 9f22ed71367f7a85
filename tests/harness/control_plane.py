"""Conductors and placements of one cell in this process, on real NATS and Postgres, without TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc

from cirra.compute.v1 import compute_pb2 as compute
from cirra.conductor.v1 import commands_pb2 as commands
from cirra.conductor.v1 import commands_pb2_grpc
from cirra.identity.v1.identity_pb2 import ROLE_ADMIN, ROLE_MEMBER, Principal
from cirra.image.v1 import image_pb2 as image
from cirra.network.v1 import network_pb2 as network
from cirra.placement.v1 import scheduling_pb2 as scheduling
from cirra.placement.v1 import scheduling_pb2_grpc
from conductor.compute.instance import Instance
from core.context import current_context
from core.eventlog.log import EventLog
from core.ids import host_aggregate_id
from core.repository import Repository
from core.rpc.client import channel
from core.rpc.context import acting_as
from core.saga import SagaRun
from core.saga.state import SagaStatus
from core.sealing import Keyring
from core.testing.servers import Cell
from placement.hosts.host import Health, Host
from tests.harness.fake_host import FakeHost
from tests.harness.replicas import WINDOW_S, Replicas

PROJECT = "0197a000-0000-7000-8000-0000000000a1"
ADMIN = Principal(user_id="0197a000-0000-7000-8000-0000000000b1", project_id=PROJECT, roles=[ROLE_ADMIN, ROLE_MEMBER])
PATIENCE_S = 120.0
REPLICAS = 2


class ControlPlane(Replicas):
    """The running services, and their inner doors as an administrator's client sees them.

    `uploaded`: the folder of images' files, where every image has been uploaded.
    """

    repository: Repository

    def __init__(self, cell: Cell, folder: Path, stack: AsyncExitStack, *, window_s: float = WINDOW_S) -> None:
        super().__init__(cell, folder, stack, window_s=window_s)
        self.hosts: list[FakeHost] = []
        self.uploaded: Path | None = None

    async def open(self, *, conductors: int, placements: int) -> None:
        self.make_secrets()
        log = await EventLog.open(self.cell.dsn, schema=f"{self.cell.name}_log")
        self._stack.push_async_callback(log.close)
        self.repository = Repository(log, Keyring(log.pool, log.schema, self.master_key), current_context)
        for _ in range(placements):
            await self.start_placement()
        for _ in range(conductors):
            await self.start_conductor()

    def new_keyring(self) -> Keyring:
        """As a service has it that starts now: with the master key and the keys that there are, and no other."""
        log = self.repository.log
        return Keyring(log.pool, log.schema, self.master_key)

    def dial(self, addresses: list[str]) -> grpc.aio.Channel:
        """A channel that is closed with the control plane."""
        dialled = channel(addresses, None)
        self._stack.push_async_callback(dialled.close)
        return dialled

    @property
    def compute(self) -> Any:
        return commands_pb2_grpc.ComputeCommandsStub(self.dial(self.conductor_addresses))

    @property
    def network(self) -> Any:
        return commands_pb2_grpc.NetworkCommandsStub(self.dial(self.conductor_addresses))

    async def prepare(self, *, cidr: str = "10.0.0.0/24") -> Prepared:
        """An image, a flavor and a network to make instances of."""
        dialled = self.dial(self.conductor_addresses)
        images, networks = commands_pb2_grpc.ImageCommandsStub(dialled), commands_pb2_grpc.NetworkCommandsStub(dialled)
        with acting_as(ADMIN):
            made = await images.CreateImage(
                image.CreateImageRequest(image=image.Image(display_name="i", disk_format=image.DISK_FORMAT_QCOW2))
            )
            await images.ActivateImage(
                commands.ActivateImageCommand(
                    image_id=made.uid, sha256="ab" * 32, size_bytes=1, virtual_size_bytes=1 << 20
                )
            )
            flavor = await self.compute.CreateFlavor(
                compute.CreateFlavorRequest(
                    flavor=compute.Flavor(display_name="small", vcpus=1, memory_mib=64, disk_gib=1)
                )
            )
            net = await networks.CreateNetwork(network.CreateNetworkRequest(network=network.Network(display_name="n")))
            await networks.CreateSubnet(
                network.CreateSubnetRequest(subnet=network.Subnet(display_name="s", network=net.uid, cidr=cidr))
            )
        return Prepared(self, image_id=made.uid, flavor_id=flavor.uid, network_id=net.uid)

    async def register_host(self, host: str) -> None:
        stub = scheduling_pb2_grpc.SchedulingServiceStub(self.dial(self.placement_addresses))
        await stub.RegisterHost(scheduling.RegisterHostRequest(host=host, availability_zone="nova"))

    async def add_host(self, host: FakeHost) -> FakeHost:
        """Registers and starts it; it is looked at by the checker of invariants, and stopped with the control plane."""
        await host.start(self.register_host)
        self._stack.push_async_callback(host.stop)
        self.hosts.append(host)
        return host

    async def hosts_are_up(self, *names: str) -> None:
        """Returns once the hosts can take guests."""
        async with asyncio.timeout(PATIENCE_S):
            for name in names:
                await self.host_is(name, Health.UP)

    async def host_is(self, name: str, health: Health) -> None:
        """Returns once the host, whose inventory is known, is so."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                host = await self.repository.find(Host, host_aggregate_id(name))
                if host is not None and host.health is health and host.inventory.vcpus:
                    return
                await asyncio.sleep(0.05)

    async def instance(self, uid: str) -> Instance:
        return await self.repository.load(Instance, UUID(uid))

    async def ended(self, saga_id: str) -> SagaRun:
        """The run, once it has ended or waits for a person."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                run = await self.repository.load(SagaRun, UUID(saga_id))
                if run.status is not SagaStatus.RUNNING:
                    return run
                await asyncio.sleep(0.02)


class Prepared:
    """What instances are made of."""

    def __init__(self, plane: ControlPlane, *, image_id: str, flavor_id: str, network_id: str) -> None:
        self.plane = plane
        self.image_id = image_id
        self.flavor_id = flavor_id
        self.network_id = network_id

    async def create(
        self,
        name: str = "demo",
        *,
        user_data: bytes = b"",
        metadata: Mapping[str, str] | None = None,
        tags: Sequence[str] = (),
        nics: int = 1,
        **request: Any,
    ) -> commands.Accepted:
        wanted = compute.Instance(
            display_name=name,
            image=self.image_id,
            flavor=self.flavor_id,
            nics=[compute.InstanceNic(network=self.network_id)] * nics,
            user_data=user_data,
            metadata=metadata,
            tags=tags,
        )
        with acting_as(ADMIN):
            accepted: commands.Accepted = await self.plane.compute.CreateInstance(
                compute.CreateInstanceRequest(instance=wanted, **request)
            )
        return accepted

    async def delete(self, uid: str) -> commands.Accepted:
        with acting_as(ADMIN):
            accepted: commands.Accepted = await self.plane.compute.DeleteInstance(
                compute.DeleteInstanceRequest(name=uid)
            )
        return accepted


@asynccontextmanager
async def control_plane(
    cell: Cell, folder: Path, *, conductors: int = REPLICAS, placements: int = REPLICAS, window_s: float = WINDOW_S
) -> AsyncIterator[ControlPlane]:
    """Up until the block ends; each service is stopped in order. Calls are spread over its replicas."""
    async with AsyncExitStack() as stack:
        plane = ControlPlane(cell, folder, stack, window_s=window_s)
        await plane.open(conductors=conductors, placements=placements)
        yield plane
