"""What host A may ask of the conductor over mutual TLS: its own desired state and images, nobody else's."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
import pytest

from cirra.agent.v1 import desired_pb2 as agent
from cirra.agent.v1 import host_pb2 as api
from cirra.agent.v1 import host_pb2_grpc
from cirra.compute.v1.events_pb2 import InstanceDomainDesired
from cirra.conductor.v1 import commands_pb2_grpc
from cirra.identity.v1.identity_pb2 import CreateProjectRequest
from cirra.image.v1 import image_pb2 as image_api
from conductor.compute.instance import Instance
from conductor.doors import authorize
from conductor.fabric.projection import FabricProjection
from conductor.fabric.state import FabricState
from conductor.hosts.api import TICKET_AUDIENCE, HostAgentServicer
from conductor.hosts.contents import HostContents
from conductor.hosts.desired_state import DesiredState, DesiredStateProjection
from conductor.hosts.wishes import HostWishes
from conductor.identity.commands import IdentityCommands
from conductor.identity.passwords import Passwords
from conductor.image.image import Image
from core.agent.generations import GenerationStore
from core.bus import connect, ensure_streams
from core.context import current_context
from core.errors import DeadlineExceeded, PermissionDenied, Unauthenticated, Unavailable
from core.eventlog.leases import Leases
from core.eventlog.log import EventLog
from core.eventlog.types import Head
from core.ids import host_aggregate_id, uuid7
from core.pki.authority import Authority, new_key_and_request
from core.pki.identity import Identity
from core.pki.tls import TlsFiles
from core.projection import Projector
from core.repository import Repository
from core.rpc.client import channel, server_only_credentials
from core.rpc.server import serve
from core.sealing import Keyring
from core.service import Lifetime
from core.testing.servers import Cell
from placement.hosts.host import Host

KEY = os.urandom(32)


class Doors:
    """A conductor's doors, with one guest of `host-b` made of `image_id`."""

    def __init__(self, address: str, authority: Authority, folder: Path, image_id: str) -> None:
        self.address, self._authority, self._folder, self.image_id = address, authority, folder, image_id

    def tls_of(self, identity: Identity) -> TlsFiles:
        key, request = new_key_and_request(identity)
        certificate = self._authority.sign_csr(request, identity)
        folder = self._folder / f"{identity.kind}-{identity.name}"
        return TlsFiles.write(folder, self._authority.certificate_pem, certificate, key)

    def as_host(self, name: str) -> Any:
        return host_pb2_grpc.HostAgentServiceStub(channel([self.address], self.tls_of(Identity.host(name))))


@pytest.fixture
async def doors(cell: Cell, authority: Authority, tmp_path: Path) -> AsyncIterator[Doors]:
    log = await EventLog.open(cell.dsn, schema=f"{cell.name}_log")
    repository = Repository(log, Keyring(log.pool, f"{cell.name}_log", bytes(32)), current_context)
    image_id = await _guest_of_host_b(repository)
    lifetime, schema = Lifetime(), f"{cell.name}_conductor"
    bus = await connect(cell.nats_url, cell=cell.name, name="test", credentials=cell.credentials)
    await ensure_streams(bus)
    leases = Leases(log.pool, log.schema)
    projectors = [
        Projector(projection, log=log, bus=bus, leases=leases, schema=schema, holder="t")
        for projection in (DesiredStateProjection(), FabricProjection())
    ]
    for projector in projectors:
        await projector.prepare()
        lifetime.start(projector.run(), projector.projection.name)

    async def caught_up() -> Head:
        head = await log.head()
        for projector in projectors:
            assert await projector.wait_for(head.position, 60)
        return head

    servicer = HostAgentServicer(
        repository,
        HostWishes(DesiredState(log.pool, schema, log.schema), FabricState(log.pool, schema)),
        HostContents(log.pool, schema),
        caught_up,
        ticket_key=KEY,
        download_url="https://gateway/images",
        now=lambda: datetime.now(UTC),
    )
    tls = authority.issue_server("conductor", ("localhost", "127.0.0.1"), tmp_path / "conductor")
    identity = IdentityCommands(repository, Passwords())
    server = await serve(
        [
            (host_pb2_grpc.add_HostAgentServiceServicer_to_server, servicer),
            (commands_pb2_grpc.add_IdentityCommandsServicer_to_server, identity),
        ],
        listen="127.0.0.1:0",
        tls=tls,
        authorize=authorize,
    )
    yield Doors(f"localhost:{server.port}", authority, tmp_path, image_id)
    await server.stop(0)
    await lifetime.close()
    await bus.close()
    await log.close()


async def _guest_of_host_b(repository: Repository) -> str:
    image_id, instance_id = uuid7(), uuid7()
    image = Image.create(
        image_id, image_api.Image(display_name="i", disk_format=image_api.DISK_FORMAT_QCOW2), project_id=str(uuid7())
    )
    image.activate("ab" * 32, size_bytes=1, virtual_size_bytes=1)
    instance = Instance.new(instance_id)
    spec = agent.DomainSpec(instance_id=str(instance_id), image=agent.ImageRef(image_id=str(image_id)))
    desired = agent.DesiredObject(
        host="host-b", agent="compute", kind="domain", object_id=str(instance_id), generation=1, domain=spec
    )
    instance.record(InstanceDomainDesired(desired=desired))
    await repository.save(image, instance, _enrolled("host-a"), _enrolled("host-b"))
    return str(image_id)


def _enrolled(name: str) -> Host:
    host = Host.new(host_aggregate_id(name))
    host.enrol(name, "zone-1")
    return host


async def test_a_host_gets_its_own_desired_state(doors: Doors) -> None:
    answer = await doors.as_host("host-b").GetDesiredState(api.GetDesiredStateRequest(host="host-b", agent="compute"))
    assert [desired.domain.image.image_id for desired in answer.objects] == [doors.image_id]
    assert answer.complete
    again = api.GetDesiredStateRequest(host="host-b", agent="compute", since=answer.position)
    assert not (await doors.as_host("host-b").GetDesiredState(again)).objects


async def test_an_agent_acts_on_what_it_is_told_here(doors: Doors, tmp_path: Path) -> None:
    """As on a command: the same epoch stands above the generations of both."""
    answer = await doors.as_host("host-b").GetDesiredState(api.GetDesiredStateRequest(host="host-b", agent="compute"))
    assert answer.epoch > 0
    store = GenerationStore(tmp_path / "compute")
    await store.hear(answer.epoch, answer.accepted_epoch)
    [desired] = answer.objects
    by_command = agent.DesiredObject()
    by_command.CopyFrom(desired)
    by_command.epoch = answer.epoch
    await store.record(by_command)
    assert store.accepts(desired), "what reconcile repairs was made by a command"


async def test_a_host_may_not_ask_for_another(doors: Doors) -> None:
    with pytest.raises(PermissionDenied):
        await doors.as_host("host-a").GetDesiredState(api.GetDesiredStateRequest(host="host-b", agent="compute"))


async def test_a_host_gets_a_ticket_for_its_guests_images(doors: Doors) -> None:
    request = api.GetImageDownloadRequest(host="host-b", image_id=doors.image_id)
    answer = await doors.as_host("host-b").GetImageDownload(request)
    assert answer.url == f"https://gateway/images/{'ab' * 32}"
    claims = jwt.decode(answer.ticket, KEY, algorithms=["HS256"], audience=TICKET_AUDIENCE)
    assert (claims["host"], claims["sha256"]) == ("host-b", "ab" * 32)


async def test_a_host_gets_no_ticket_for_anothers_images(doors: Doors) -> None:
    stub = doors.as_host("host-a")
    with pytest.raises(PermissionDenied):
        await stub.GetImageDownload(api.GetImageDownloadRequest(host="host-a", image_id=doors.image_id))
    with pytest.raises(PermissionDenied):
        await stub.GetImageDownload(api.GetImageDownloadRequest(host="host-b", image_id=doors.image_id))


async def test_a_host_gives_no_commands(doors: Doors) -> None:
    stub: Any = commands_pb2_grpc.IdentityCommandsStub(channel([doors.address], doors.tls_of(Identity.host("host-a"))))
    with pytest.raises(PermissionDenied):
        await stub.CreateProject(CreateProjectRequest())


async def test_nobody_comes_in_without_a_certificate(doors: Doors, authority: Authority) -> None:
    stranger = channel([doors.address], None, credentials=server_only_credentials(authority.certificate_pem))
    stub: Any = host_pb2_grpc.HostAgentServiceStub(stranger)
    with pytest.raises((Unavailable, DeadlineExceeded)):  # the handshake fails
        await stub.GetDesiredState(api.GetDesiredStateRequest(host="host-b", agent="compute"), timeout=5)


async def test_a_service_is_no_host(doors: Doors) -> None:
    stub: Any = host_pb2_grpc.HostAgentServiceStub(channel([doors.address], doors.tls_of(Identity.service("metadata"))))
    with pytest.raises((PermissionDenied, Unauthenticated)):
        await stub.GetDesiredState(api.GetDesiredStateRequest(host="host-b", agent="compute"))
