"""Conductors and placements of one cell in this process, on real NATS and Postgres, without TLS."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator
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
from conductor.bootstrap import bootstrap as conductor_bootstrap
from conductor.compute.instance import Instance
from conductor.settings import ConductorSettings
from core.context import current_context
from core.eventlog.log import EventLog
from core.ids import host_aggregate_id
from core.natsauth.keys import NatsKeys
from core.pki.authority import Authority
from core.repository import Repository
from core.rpc.client import channel
from core.rpc.context import acting_as
from core.saga import SagaRun
from core.saga.state import SagaStatus
from core.sealing import Keyring
from core.service import Lifetime
from core.testing.servers import Cell
from placement.bootstrap import bootstrap as placement_bootstrap
from placement.hosts.host import Health, Host
from placement.settings import PlacementSettings

PROJECT = "0197a000-0000-7000-8000-0000000000a1"
ADMIN = Principal(user_id="0197a000-0000-7000-8000-0000000000b1", project_id=PROJECT, roles=[ROLE_ADMIN, ROLE_MEMBER])
WINDOW_S = 2.0
PATIENCE_S = 30.0


class ControlPlane:
    """The running services, and their doors as an administrator's client sees them."""

    def __init__(self, cell: Cell, folder: Path, stack: AsyncExitStack) -> None:
        self.cell = cell
        self._folder = folder
        self._stack = stack
        self.conductors: list[Lifetime] = []
        self.placements: list[Lifetime] = []
        self.placement_addresses: list[str] = []
        self.conductor_addresses: list[str] = []
        self.repository: Repository

    async def open(self, *, conductors: int, placements: int) -> None:
        Authority.create(self._folder / "ca")
        NatsKeys.create(self._folder / "nats-keys")
        for name in ("master", "ticket", "metadata"):
            (self._folder / name).write_text(base64.b64encode(os.urandom(32)).decode())
        (self._folder / "password").write_text("correct horse")
        log = await EventLog.open(self.cell.dsn, schema=f"{self.cell.name}_log")
        self._stack.push_async_callback(log.close)
        master = base64.b64decode((self._folder / "master").read_text())
        self.repository = Repository(log, Keyring(log.pool, f"{self.cell.name}_log", master), current_context)
        for _ in range(placements):
            await self.start_placement()
        for _ in range(conductors):
            await self.start_conductor()

    async def start_placement(self) -> Lifetime:
        replica = f"placement-{len(self.placements) + 1}"
        settings = PlacementSettings(**self._common(replica), heartbeat_window_s=WINDOW_S)
        lifetime, address = await self._start(placement_bootstrap, settings)
        self.placements.append(lifetime)
        self.placement_addresses.append(address)
        return lifetime

    async def start_conductor(self) -> Lifetime:
        replica = f"conductor-{len(self.conductors) + 1}"
        settings = ConductorSettings(
            **self._common(replica),
            placement_addresses=tuple(self.placement_addresses),
            ca_directory=self._folder / "ca",
            nats_keys_directory=self._folder / "nats-keys",
            ticket_key_file=self._folder / "ticket",
            metadata_key_file=self._folder / "metadata",
            image_download_url="https://localhost/images",
            metadata_url="https://localhost",
            advertised_conductor_address="localhost:1",
            advertised_nats_urls=(self.cell.nats_url,),
            admin_password_file=self._folder / "password",
        )
        lifetime, address = await self._start(conductor_bootstrap, settings)
        self.conductors.append(lifetime)
        self.conductor_addresses.append(address)
        return lifetime

    def _common(self, replica: str) -> dict[str, Any]:
        return {
            "cell": self.cell.name,
            "replica": replica,
            "postgres_dsn": self.cell.dsn,
            "nats_urls": (self.cell.nats_url,),
            "nats_credentials": self.cell.credentials,
            "master_key_file": self._folder / "master",
            "ready_file": self._folder / f"{replica}.ready",
        }

    async def _start(self, bootstrap: Any, settings: Any) -> tuple[Lifetime, str]:
        lifetime = Lifetime(settings.ready_file)
        self._stack.push_async_callback(lifetime.close)
        await bootstrap(lifetime, settings)
        address: str = json.loads(settings.ready_file.read_text())["grpc"]
        return lifetime, address

    def dial(self, addresses: list[str]) -> grpc.aio.Channel:
        """A channel that is closed with the control plane."""
        dialled = channel(addresses, None)
        self._stack.push_async_callback(dialled.close)
        return dialled

    @property
    def compute(self) -> Any:
        return commands_pb2_grpc.ComputeCommandsStub(self.dial(self.conductor_addresses))

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
        self._plane = plane
        self.image_id = image_id
        self.flavor_id = flavor_id
        self.network_id = network_id

    async def create(self, name: str = "demo", *, user_data: bytes = b"", **request: Any) -> commands.Accepted:
        wanted = compute.Instance(
            display_name=name,
            image=self.image_id,
            flavor=self.flavor_id,
            nics=[compute.InstanceNic(network=self.network_id)],
            user_data=user_data,
        )
        with acting_as(ADMIN):
            accepted: commands.Accepted = await self._plane.compute.CreateInstance(
                compute.CreateInstanceRequest(instance=wanted, **request)
            )
        return accepted

    async def delete(self, uid: str) -> commands.Accepted:
        with acting_as(ADMIN):
            accepted: commands.Accepted = await self._plane.compute.DeleteInstance(
                compute.DeleteInstanceRequest(name=uid)
            )
        return accepted


@asynccontextmanager
async def control_plane(
    cell: Cell, folder: Path, *, conductors: int = 1, placements: int = 1
) -> AsyncIterator[ControlPlane]:
    """Up until the block ends; each service is stopped in order."""
    async with AsyncExitStack() as stack:
        plane = ControlPlane(cell, folder, stack)
        await plane.open(conductors=conductors, placements=placements)
        yield plane
