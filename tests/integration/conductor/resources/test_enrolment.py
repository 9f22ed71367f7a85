"""A machine becomes a host: once, with identities that work, and again only for who holds the same keys."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nats
import pytest
import pytest_asyncio
from cryptography import x509

from cirra.placement.v1 import placement_pb2 as pb
from cirra.placement.v1 import scheduling_pb2, scheduling_pb2_grpc
from conductor.enrolment.commands import Advertised, HostCommands
from conductor.enrolment.credentials import HostCredentials
from conductor.hosts.acceptance import HostAcceptance
from conductor.hosts.contents import HostContents
from conductor.hosts.desired_state import DesiredState
from core.bus import Bus, CommandConsumers, connect, ensure_streams
from core.errors import FailedPrecondition, InvalidArgument, PermissionDenied, Unauthenticated
from core.natsauth.keys import NatsKeys, Nkey, NkeyKind
from core.natsauth.permissions import AGENTS, inbox_prefix
from core.natsauth.tokens import format_credentials
from core.pki.authority import Authority, new_key_and_request
from core.pki.identity import Identity, certificate_identity
from core.rpc.client import channel
from core.rpc.server import serve
from core.testing.servers import Cell
from tests.integration.conductor.resources.world import World, answers, errors

METADATA_KEY = bytes(32)


class Placement(scheduling_pb2_grpc.SchedulingServiceServicer):
    """What the conductor needs of placement, over real gRPC."""

    def __init__(self) -> None:
        self.hosts: dict[str, str] = {}
        self.enabled: dict[str, tuple[bool, str]] = {}

    async def RegisterHost(
        self, request: scheduling_pb2.RegisterHostRequest, context: Any
    ) -> scheduling_pb2.RegisterHostResponse:
        self.hosts[request.host] = request.availability_zone
        return scheduling_pb2.RegisterHostResponse(position=7)

    async def SetHostEnabled(
        self, request: scheduling_pb2.SetHostEnabledRequest, context: Any
    ) -> scheduling_pb2.SetHostEnabledResponse:
        self.enabled[request.host] = (request.enabled, request.reason)
        return scheduling_pb2.SetHostEnabledResponse(position=8)


class Clock:
    """Postgres's time, shifted."""

    def __init__(self, world: World) -> None:
        self._log = world.log
        self.shift = timedelta()

    async def __call__(self) -> datetime:
        now: datetime = await self._log.pool.fetchval("SELECT clock_timestamp()")
        return now + self.shift


@dataclass(frozen=True, slots=True)
class Machine:
    """What a machine makes for itself before it asks."""

    key: bytes
    request: bytes
    nkey: Nkey

    @classmethod
    def make(cls, host: str = "h1") -> Machine:
        key, request = new_key_and_request(Identity.host(host))
        return cls(key, request, Nkey.generate(NkeyKind.USER))

    def asks(self, token: str, host: str = "h1") -> pb.EnrollRequest:
        return pb.EnrollRequest(
            host=host, token=token, certificate_request=self.request.decode(), nats_public_key=self.nkey.public
        )


@dataclass(frozen=True, slots=True)
class Enrolling:
    world: World
    commands: HostCommands
    placement: Placement
    clock: Clock
    bus: Bus

    async def token(self, host: str = "h1", **fields: Any) -> str:
        request = pb.CreateEnrolmentTokenRequest(host=host, **fields)
        return (await self.world.admin.call(self.commands.CreateEnrolmentToken, request)).token


@pytest_asyncio.fixture
async def enrolling(world: World, cell: Cell, authority: Authority, nats_keys: NatsKeys) -> AsyncIterator[Enrolling]:
    clock = Clock(world)
    # Whoever calls what it does not have is told UNIMPLEMENTED.
    placement = Placement()  # type: ignore[abstract]
    add = scheduling_pb2_grpc.add_SchedulingServiceServicer_to_server
    server = await serve([(add, placement)], listen="127.0.0.1:0", tls=None, require_client=False)
    bus = await connect(cell.nats_url, cell=cell.name, name="conductor", credentials=cell.credentials)
    await ensure_streams(bus)
    async with channel([server.address], None) as to_placement:
        commands = HostCommands(
            world.repository,
            credentials=HostCredentials(
                authority, nats_keys.hosts.signer, cell.name, METADATA_KEY, now=lambda: datetime.now(UTC)
            ),
            advertised=Advertised(
                nats_urls=(cell.nats_url,),
                conductor_addresses=("conductor:1",),
                metadata_url="https://metadata",
                image_download_url="https://images",
            ),
            consumers=CommandConsumers(bus),
            placement=scheduling_pb2_grpc.SchedulingServiceStub(to_placement),
            acceptance=_acceptance(world, scheduling_pb2_grpc.SchedulingServiceStub(to_placement)),
            clock=clock,
        )
        yield Enrolling(world, commands, placement, clock, bus)
    await bus.close()
    await server.stop(0.1)


def _acceptance(world: World, placement: Any) -> HostAcceptance:
    log, schema = world.repository.log, f"{world.repository.log.schema}_conductor"
    desired = DesiredState(log.pool, schema, log.schema)
    return HostAcceptance(desired, HostContents(log.pool, schema), placement, log.head)


async def test_a_machine_gets_identities_that_work(
    enrolling: Enrolling, authority: Authority, cell: Cell, tmp_path: Path
) -> None:
    machine = Machine.make()
    answer = await enrolling.commands.Enroll(machine.asks(await enrolling.token(availability_zone="rack1")), None)
    certificate = x509.load_pem_x509_certificate(answer.certificate.encode())
    certificate.verify_directly_issued_by(authority.certificate)
    assert certificate_identity(certificate, authority.trust_domain) == Identity.host("h1")
    assert answer.certificate_authority.encode() == authority.certificate_pem
    assert answer.metadata_proxy_key == hmac.new(METADATA_KEY, b"h1", hashlib.sha256).digest()
    assert (answer.cell, answer.availability_zone, list(answer.nats_urls)) == (cell.name, "rack1", [cell.nats_url])
    assert enrolling.placement.hosts == {"h1": "rack1"}

    credentials = tmp_path / "host.creds"
    credentials.write_text(format_credentials(answer.nats_jwt, machine.nkey.seed))
    host = await nats.connect(
        cell.nats_url, user_credentials=str(credentials), inbox_prefix=inbox_prefix(Identity.host("h1"))
    )
    stream = enrolling.bus.subjects.commands_stream
    await enrolling.bus.js.publish(enrolling.bus.subjects.commands("h1", "net", "EnsurePort", "p1"), b"hello")
    consumer = await host.jetstream().pull_subscribe_bind(durable="h1--net", stream=stream)
    [message] = await consumer.fetch(1, timeout=60)
    assert message.data == b"hello"
    await host.close()
    for agent in AGENTS:
        assert await enrolling.bus.js.consumer_info(stream, f"h1--{agent}")


async def test_a_lost_answer_is_asked_for_again_with_the_same_keys(enrolling: Enrolling) -> None:
    machine, token = Machine.make(), await enrolling.token()
    first = await enrolling.commands.Enroll(machine.asks(token), None)
    again = await enrolling.commands.Enroll(machine.asks(token), None)
    assert again.metadata_proxy_key == first.metadata_proxy_key
    certificates = [x509.load_pem_x509_certificate(it.certificate.encode()) for it in (first, again)]
    assert certificates[0].public_key() == certificates[1].public_key()


@pytest.mark.parametrize("other", ["certificate_request", "nats_public_key"])
async def test_other_keys_are_refused(enrolling: Enrolling, other: str) -> None:
    machine, token = Machine.make(), await enrolling.token()
    await enrolling.commands.Enroll(machine.asks(token), None)
    request = machine.asks(token)
    setattr(request, other, getattr(Machine.make().asks(token), other))
    with pytest.raises(FailedPrecondition) as caught:
        await enrolling.commands.Enroll(request, None)
    assert caught.value.reason == "ENROLMENT_TOKEN_USED"
    assert "host enroll-token" in caught.value.remedy


async def test_of_many_machines_at_once_one_gets_in(enrolling: Enrolling) -> None:
    token = await enrolling.token()
    results = await asyncio.gather(
        *(enrolling.commands.Enroll(Machine.make().asks(token), None) for _ in range(8)), return_exceptions=True
    )
    assert len(answers(results)) == 1
    assert all(isinstance(error, FailedPrecondition) for error in errors(results))


async def test_a_token_is_for_its_host_and_its_time(enrolling: Enrolling) -> None:
    machine, token = Machine.make("h2"), await enrolling.token("h1", ttl_seconds=600)
    with pytest.raises(Unauthenticated) as caught:
        await enrolling.commands.Enroll(machine.asks(token, "h2"), None)
    assert caught.value.reason == "ENROLMENT_TOKEN_INVALID"
    enrolling.clock.shift = timedelta(seconds=601)
    with pytest.raises(Unauthenticated) as caught:
        await enrolling.commands.Enroll(Machine.make().asks(token), None)
    assert caught.value.reason == "ENROLMENT_TOKEN_EXPIRED"
    assert enrolling.placement.hosts == {}


async def test_a_bad_request_does_not_use_the_token_up(enrolling: Enrolling) -> None:
    machine, token = Machine.make(), await enrolling.token()
    for field, value in (("certificate_request", "x"), ("nats_public_key", "UABC"), ("host", "Not A Host")):
        request = machine.asks(token)
        setattr(request, field, value)
        with pytest.raises(InvalidArgument) as caught:
            await enrolling.commands.Enroll(request, None)
        assert [violation.field for violation in caught.value.violations] == [field]
    assert (await enrolling.commands.Enroll(machine.asks(token), None)).host == "h1"


async def test_tokens_are_made_by_administrators_and_shown_once(enrolling: Enrolling) -> None:
    with pytest.raises(PermissionDenied):
        await enrolling.world.member.call(
            enrolling.commands.CreateEnrolmentToken, pb.CreateEnrolmentTokenRequest(host="h1")
        )
    first = await enrolling.token(request_id="r1")
    with pytest.raises(FailedPrecondition) as caught:
        await enrolling.token(request_id="r1")
    assert caught.value.reason == "TOKEN_SHOWN_ONCE"
    events = await enrolling.world.log.list_events(aggregate_type="enrolment")
    assert len(events) == 1
    assert first.encode() not in events[0].data
    with pytest.raises(InvalidArgument, match="ttl_seconds"):
        await enrolling.token(ttl_seconds=5)


async def test_the_expiry_is_told(enrolling: Enrolling) -> None:
    request = pb.CreateEnrolmentTokenRequest(host="h1")
    answer = await enrolling.world.admin.call(enrolling.commands.CreateEnrolmentToken, request)
    left = answer.expire_time.ToDatetime(tzinfo=UTC) - await enrolling.clock()
    assert timedelta(minutes=59) < left <= timedelta(hours=1)


async def test_enabling_and_disabling_is_handed_to_placement(enrolling: Enrolling) -> None:
    call = enrolling.world.admin.call
    accepted = await call(enrolling.commands.DisableHost, pb.DisableHostRequest(name="hosts/h1", reason="disk"))
    assert (accepted.name, accepted.position) == ("hosts/h1", 8)
    assert enrolling.placement.enabled == {"h1": (False, "disk")}
    await call(enrolling.commands.EnableHost, pb.EnableHostRequest(name="h1"))
    assert enrolling.placement.enabled == {"h1": (True, "")}
    with pytest.raises(PermissionDenied):
        await enrolling.world.member.call(enrolling.commands.EnableHost, pb.EnableHostRequest(name="h1"))
