"""A cell with a real log, bus and relay, a fake conductor and placement, and gateways with real TLS before them."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api_gateway.bootstrap import bootstrap
from api_gateway.settings import GatewaySettings
from cirra.compute.v1.compute_pb2_grpc import ComputeServiceStub
from cirra.conductor.v1 import commands_pb2_grpc
from cirra.events.v1.events_pb2_grpc import EventServiceStub
from cirra.identity.v1 import identity_pb2 as identity
from cirra.identity.v1.identity_pb2_grpc import IdentityServiceStub
from cirra.image.v1.image_pb2_grpc import ImageServiceStub
from cirra.network.v1.network_pb2_grpc import NetworkServiceStub
from cirra.operations.v1.operations_pb2_grpc import OperationServiceStub
from cirra.placement.v1 import scheduling_pb2, scheduling_pb2_grpc
from cirra.placement.v1.placement_pb2_grpc import HostServiceStub
from core import telemetry
from core.bus import Bus, connect, ensure_streams
from core.errors import Unavailable
from core.eventlog import EventLog, Leases
from core.ids import uuid7
from core.pki.authority import Authority
from core.pki.identity import Identity
from core.relay import Relay
from core.rpc.client import channel, server_only_credentials
from core.rpc.metadata import MIN_POSITION, position_of
from core.rpc.server import serve
from core.service import Lifetime
from core.settings import ServiceSettings
from core.testing.servers import Cell
from tests.integration.api_gateway.conductor_fake import FakeConductor, Journal

PATIENCE_S = 60.0
_CONDUCTOR_SERVICES = ("Identity", "Compute", "Image", "Network", "Host")


class FakePlacement(scheduling_pb2_grpc.SchedulingServiceServicer):
    async def GetLiveness(
        self, request: scheduling_pb2.GetLivenessRequest, context: Any
    ) -> scheduling_pb2.GetLivenessResponse:
        return scheduling_pb2.GetLivenessResponse(
            entries=[
                scheduling_pb2.Liveness(service="conductor", instance="c1", up=True, silence_ms=12),
                scheduling_pb2.Liveness(service="compute-agent", instance="host-1", up=False, silence_ms=9000),
            ]
        )


class Client:
    """The public stubs of one gateway, with one caller's token. `position`: the highest that an answer told."""

    def __init__(self, opened: grpc.aio.Channel, token: str = "", *, remembers: bool = True) -> None:
        self.channel = opened
        self.token = token
        self.position = 0
        self._remembers = remembers
        self.compute = ComputeServiceStub(opened)
        self.image = ImageServiceStub(opened)
        self.network = NetworkServiceStub(opened)
        self.identity = IdentityServiceStub(opened)
        self.operations = OperationServiceStub(opened)
        self.events = EventServiceStub(opened)
        self.hosts = HostServiceStub(opened)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        entries = []
        if self.token:
            entries.append(("authorization", f"Bearer {self.token}"))
        if self._remembers:
            entries.append((MIN_POSITION, str(self.position)))
        return tuple(entries)

    async def call(self, method: Any, request: Any, **kwargs: Any) -> Any:
        """One unary call, as the SDK would make it: again while the read model is behind, on a busy machine."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                call = method(request, metadata=self.metadata, **kwargs)
                try:
                    response = await call
                except Unavailable as error:
                    if error.reason != "READ_MODEL_BEHIND":
                        raise
                    continue
                self.position = max(self.position, position_of(await call.trailing_metadata()))
                return response

    def stream(self, method: Any, request: Any) -> Any:
        return method(request, metadata=self.metadata)


@dataclass
class World:
    cell: Cell
    authority: Authority
    folder: Path
    log: EventLog
    bus: Bus
    conductor: FakeConductor
    conductor_address: str
    placement_address: str
    token_key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    ticket_key: bytes = field(default_factory=lambda: os.urandom(32))
    channels: list[grpc.aio.Channel] = field(default_factory=list)

    @property
    def journal(self) -> Journal:
        return self.conductor.journal

    @property
    def blob_folder(self) -> Path:
        return self.folder / "blobs"

    def user(self, name: str, project_id: str, *roles: identity.Role.ValueType) -> identity.Principal:
        """Somebody who can log in with the name as password."""
        principal = identity.Principal(
            user_id=str(uuid7()), user_name=name, project_id=project_id, roles=roles or (identity.ROLE_MEMBER,)
        )
        self.conductor.principals[name] = principal
        return principal

    def gateway_settings(self, name: str, **others: Any) -> GatewaySettings:
        folder = self.folder / name
        self.authority.issue_server("api-gateway", ["127.0.0.1"], folder)
        pem = self.token_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (folder / "token.pem").write_bytes(pem)
        (folder / "ticket.key").write_text(base64.b64encode(self.ticket_key).decode())
        (folder / "master.key").write_text(base64.b64encode(os.urandom(32)).decode())
        given: Mapping[str, Any] = {
            "cell": self.cell.name,
            "replica": name,
            "postgres_dsn": self.cell.dsn,
            "nats_urls": (self.cell.nats_url,),
            "nats_credentials": self.cell.credentials_of(Identity.service("api-gateway")),
            "tls_directory": folder,
            "master_key_file": folder / "master.key",
            "token_key_file": folder / "token.pem",
            "ticket_key_file": folder / "ticket.key",
            "blob_directory": self.blob_folder,
            "conductor_addresses": (self.conductor_address,),
            "placement_addresses": (self.placement_address,),
            "ready_file": folder / "ready.json",
            **others,
        }
        return GatewaySettings(**given)

    @asynccontextmanager
    async def gateway(self, name: str = "g1", **others: Any) -> AsyncIterator[Gateway]:
        settings = self.gateway_settings(name, **others)
        lifetime = Lifetime(settings.ready_file)
        try:
            await bootstrap(lifetime, settings)
            assert settings.ready_file is not None
            facts = json.loads(settings.ready_file.read_text())
            yield Gateway(self, facts["grpc"], facts["http"])
            assert not lifetime.failed
        finally:
            await lifetime.close(5.0)

    def open(self, address: str) -> grpc.aio.Channel:
        opened = channel([address], None, credentials=server_only_credentials(self.authority.certificate_pem))
        self.channels.append(opened)
        return opened


@dataclass(frozen=True)
class Gateway:
    """A running gateway. `grpc` and `http` are its addresses."""

    world: World
    grpc: str
    http: str

    def anonymous(self) -> Client:
        return Client(self.world.open(self.grpc))

    def with_token(self, token: str) -> Client:
        return Client(self.world.open(self.grpc), token)

    async def login(self, name: str) -> Client:
        client = self.anonymous()
        request = identity.CreateTokenRequest(user=name, password=name)
        client.token = (await client.identity.CreateToken(request)).access_token
        return client


@asynccontextmanager
async def make_world(cell: Cell, authority: Authority, folder: Path) -> AsyncIterator[World]:
    telemetry.configure("test", ServiceSettings())
    log = await EventLog.open(cell.dsn, schema=f"{cell.name}_log", pool_size=4)
    bus = await connect(cell.nats_url, cell=cell.name, name="test", credentials=cell.credentials)
    await ensure_streams(bus)
    relay = asyncio.create_task(Relay(log, Leases(log.pool, log.schema), bus, holder="test").run())
    conductor = FakeConductor(log)  # type: ignore[abstract]  # what it lacks answers UNIMPLEMENTED
    adders = [getattr(commands_pb2_grpc, f"add_{name}CommandsServicer_to_server") for name in _CONDUCTOR_SERVICES]
    conductor_tls = authority.issue_server("conductor", ["127.0.0.1"], folder / "conductor")
    conductor_server = await serve([(add, conductor) for add in adders], listen="127.0.0.1:0", tls=conductor_tls)
    placement_tls = authority.issue_server("placement", ["127.0.0.1"], folder / "placement")
    placement_server = await serve(
        [(scheduling_pb2_grpc.add_SchedulingServiceServicer_to_server, FakePlacement())],  # type: ignore[abstract]
        listen="127.0.0.1:0",
        tls=placement_tls,
    )
    world = World(cell, authority, folder, log, bus, conductor, conductor_server.address, placement_server.address)
    try:
        yield world
    finally:
        for opened in world.channels:
            await opened.close()
        relay.cancel()
        await asyncio.gather(relay, return_exceptions=True)
        await conductor_server.stop(0.1)
        await placement_server.stop(0.1)
        await bus.close()
        await log.close()


def new_project() -> str:
    """A project's uid."""
    return str(uuid7())


async def eventually(holds: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
    """Returns once the condition holds; TimeoutError when it does not in time."""
    async with asyncio.timeout(timeout_s):
        while not holds():  # noqa: ASYNC110 - of the file system, which wakes nobody
            await asyncio.sleep(0.02)
