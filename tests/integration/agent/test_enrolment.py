"""A machine becomes a host: over a door without client certificates, with a token, once, also after a crash."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509

from cirra.agent.v1.host_pb2 import GetDesiredStateRequest
from cirra.placement.v1 import placement_pb2, placement_pb2_grpc
from core.agent.identity import HostIdentity, enroll, is_enrolled
from core.agent.link import AgentLink
from core.agent.settings import AgentSettings
from core.errors import FailedPrecondition, Unauthenticated, Unavailable
from core.natsauth.permissions import identity_permissions
from core.natsauth.tokens import user_token
from core.pki.authority import Authority
from core.pki.identity import Identity
from core.rpc.context import peer
from core.rpc.server import serve
from tests.integration.agent.world import HOST, World


class Door(placement_pb2_grpc.HostServiceServicer):
    """Enrols one host by one token and one key, as the conductor does; may lose its answer, or give a wrong one."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.requests: list[placement_pb2.EnrollRequest] = []
        self.lost_answers = 0
        self.signs_as = HOST

    async def Enroll(
        self, request: placement_pb2.EnrollRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> placement_pb2.EnrollResponse:
        assert peer() is None
        if request.token != "once":
            raise Unauthenticated("this token is not known", reason="BAD_TOKEN")
        self.requests.append(request)
        if self.lost_answers:
            self.lost_answers -= 1
            raise FailedPrecondition("the answer is lost on its way")
        identity = Identity.host(self.signs_as)
        certificate = self.world.authority.sign_csr(request.certificate_request.encode(), identity)
        permissions = identity_permissions(self.world.cell.name, Identity.host(HOST))
        signer = self.world.cell.keys.hosts.signer
        now = datetime.now(UTC)
        return placement_pb2.EnrollResponse(
            host=request.host,
            certificate=certificate.decode(),
            certificate_authority=self.world.authority.certificate_pem.decode(),
            nats_jwt=user_token(signer, HOST, request.nats_public_key, permissions, now),
            nats_urls=[self.world.cell.nats_url],
            conductor_addresses=[(self.world.folder / "conductor-address").read_text()],
            metadata_url="https://metadata:1",
            metadata_proxy_key=hashlib.sha256(b"host").digest(),
            cell=self.world.cell.name,
            image_download_url="https://gateway:1",
            availability_zone="az1",
        )


@asynccontextmanager
async def opened(door: Door) -> AsyncIterator[str]:
    tls = door.world.authority.issue_server("api-gateway", [], door.world.folder / "gateway-tls")
    add = placement_pb2_grpc.add_HostServiceServicer_to_server
    server = await serve([(add, door)], listen="127.0.0.1:0", tls=tls, require_client=False)
    yield server.address
    await server.stop(0)


async def test_an_enrolled_host_has_what_its_agents_need(world: World, tmp_path: Path) -> None:
    door = Door(world)  # type: ignore[abstract]  # one method of the contract is enough here
    folder = tmp_path / "identity"
    ca_file = world.authority.folder / "ca.crt"
    async with opened(door) as address:
        identity = await enroll(address, ca_file, HOST, "once", folder)
        assert await enroll(address, ca_file, HOST, "once", folder) == identity, "safe to repeat"
        with pytest.raises(FailedPrecondition):
            await enroll(address, ca_file, "h2", "once", folder)
    assert len(door.requests) == 1
    assert HostIdentity.load(folder) == identity
    assert (identity.cell, identity.availability_zone) == (world.cell.name, "az1")
    assert identity.metadata_key.read_bytes() == hashlib.sha256(b"host").digest()
    assert folder.stat().st_mode & 0o777 == 0o700
    secrets = {"key.pem", "nats.creds", "metadata.key", "host.json"}
    assert {path.name for path in folder.iterdir()} == secrets | {"cert.pem", "ca.pem"}
    assert all((folder / name).stat().st_mode & 0o777 == 0o600 for name in secrets)
    link = await AgentLink.open(identity, "compute", AgentSettings(boot_id_file=world.folder / "boot_id"))
    answer = await link.conductor.GetDesiredState(GetDesiredStateRequest(host=HOST, agent="compute"))
    assert answer.position == world.conductor.position
    assert await link.reporter.report("domain", "a", generation=1)
    await world.until_reported("a", 1)
    await link.close()


async def test_a_repeat_after_a_lost_answer_offers_the_same_keys(world: World, tmp_path: Path) -> None:
    door = Door(world)  # type: ignore[abstract]
    door.lost_answers = 1
    folder = tmp_path / "identity"
    ca_file = world.authority.folder / "ca.crt"
    async with opened(door) as address:
        with pytest.raises(FailedPrecondition):
            await enroll(address, ca_file, HOST, "once", folder)
        assert not is_enrolled(folder)
        with pytest.raises(FailedPrecondition):
            HostIdentity.load(folder)
        await enroll(address, ca_file, HOST, "once", folder)
    first, second = door.requests
    assert first.certificate_request == second.certificate_request
    assert first.nats_public_key == second.nats_public_key
    certificate = x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes())
    request = x509.load_pem_x509_csr(first.certificate_request.encode())
    assert certificate.public_key() == request.public_key()
    assert not list(folder.glob("pending.*"))


async def test_what_must_not_enrol_does_not(world: World, tmp_path: Path) -> None:
    door = Door(world)  # type: ignore[abstract]
    folder = tmp_path / "identity"
    ca_file = world.authority.folder / "ca.crt"
    async with opened(door) as address:
        with pytest.raises(Unauthenticated) as refused:
            await enroll(address, ca_file, HOST, "guessed", folder)
        assert refused.value.reason == "BAD_TOKEN"
        door.signs_as = "h2"
        with pytest.raises(Unauthenticated):
            await enroll(address, ca_file, HOST, "once", folder)
        Authority.create(tmp_path / "stranger")
        with pytest.raises(Unavailable):
            await enroll(address, tmp_path / "stranger" / "ca.crt", HOST, "once", tmp_path / "other")
    assert not is_enrolled(folder)
    assert not (folder / "cert.pem").exists()
