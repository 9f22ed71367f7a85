"""A client and a server of ours over real TCP and mutual TLS: identities, errors, what travels beside a message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from opentelemetry import trace

from cirra.agent.v1 import host_pb2, host_pb2_grpc
from cirra.events.v1 import events_pb2, events_pb2_grpc
from cirra.identity.v1.identity_pb2 import ROLE_MEMBER, Principal
from cirra.image.v1 import image_pb2, image_pb2_grpc
from core import telemetry
from core.errors import (
    CirraError,
    DeadlineExceeded,
    FieldViolation,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)
from core.pki.authority import Authority, new_key_and_request
from core.pki.identity import Identity
from core.pki.tls import TlsFiles
from core.rpc.client import channel, server_only_credentials
from core.rpc.context import acting_as, current_principal, peer, require_host
from core.rpc.metadata import position_of, set_position
from core.rpc.retry import retried
from core.rpc.server import RunningServer, Service, serve
from core.settings import ServiceSettings

CONDUCTOR = Identity.service("conductor")
ALICE = Principal(user_id="u1", user_name="alice", project_id="p1", roles=[ROLE_MEMBER])


class HostServicer(host_pb2_grpc.HostAgentServiceServicer):
    """Answers by what the request's host says, and remembers who asked."""

    def __init__(self) -> None:
        self.peers: list[Identity | None] = []
        self.principals: list[Principal | None] = []
        self.correlations: list[str] = []
        self.trace_ids: list[int] = []
        self.failures_left = 0

    async def GetDesiredState(
        self, request: host_pb2.GetDesiredStateRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> host_pb2.GetDesiredStateResponse:
        self.peers.append(peer())
        self.principals.append(current_principal())
        self.correlations.append(telemetry.correlation_id())
        self.trace_ids.append(trace.get_current_span().get_span_context().trace_id)
        if self.failures_left:
            self.failures_left -= 1
            raise Unavailable("not yet")
        match request.host:
            case "invalid":
                raise InvalidArgument(FieldViolation("host", "no such host"), reason="BAD_HOST")
            case "missing":
                raise NotFound("there is no such host", reason="NO_SUCH_HOST", remedy="enrol it")
            case "bug":
                raise ZeroDivisionError("the secret of the house")
            case "database":
                raise ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 5432)")
            case "slow":
                await asyncio.sleep(60)
            case "own":
                require_host("own")
        set_position(context, 42, 1)
        return host_pb2.GetDesiredStateResponse(position=42, complete=True)


class EventServicer(events_pb2_grpc.EventServiceServicer):
    """Streams three events, then fails; or streams for ever and notes when it was stopped."""

    def __init__(self) -> None:
        self.stopped = asyncio.Event()

    async def WatchEvents(
        self, request: events_pb2.WatchEventsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[events_pb2.Event]:
        try:
            position = request.after_position
            while request.resource == "endless" or position < request.after_position + 3:
                position += 1
                yield events_pb2.Event(position=position, correlation_id=telemetry.correlation_id())
                await asyncio.sleep(0.001)
            raise NotFound("the log ends here", reason="TRUNCATED")
        finally:
            self.stopped.set()


class ImageServicer(image_pb2_grpc.ImageServiceServicer):
    """Counts the bytes that it is sent."""

    async def UploadImageData(
        self,
        request_iterator: AsyncIterator[image_pb2.UploadImageDataRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> image_pb2.Image:
        size = 0
        async for request in request_iterator:
            size += len(request.chunk)
            if size > 3000:
                raise InvalidArgument(FieldViolation("chunk", "too much"))
        return image_pb2.Image(size_bytes=size)


class Cell:
    """An authority, and a running server of the three services as service/conductor."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority.create(folder / "ca")
        self.hosts = HostServicer()  # type: ignore[abstract]  # one method of the contract is enough here
        self.events = EventServicer()  # type: ignore[abstract]
        self.calls: list[tuple[str, Identity | None]] = []
        self._server: RunningServer | None = None

    @property
    def address(self) -> str:
        assert self._server is not None
        return self._server.address

    async def start(self, *, require_client: bool = True, listen: str = "127.0.0.1:0") -> RunningServer:
        services: list[Service] = [
            (host_pb2_grpc.add_HostAgentServiceServicer_to_server, self.hosts),
            (events_pb2_grpc.add_EventServiceServicer_to_server, self.events),
            (image_pb2_grpc.add_ImageServiceServicer_to_server, ImageServicer()),  # type: ignore[abstract]
        ]
        tls = self.authority.issue_server("conductor", [], self.folder / "conductor")
        self._server = await serve(
            services, listen=listen, tls=tls, require_client=require_client, authorize=self._authorize
        )
        return self._server

    def _authorize(self, method: str, identity: Identity | None) -> None:
        self.calls.append((method, identity))
        if identity == Identity.service("metadata"):
            raise PermissionDenied("metadata has no business here")

    def service(self, name: str) -> TlsFiles:
        return self.authority.issue_server(name, [], self.folder / name)

    def host(self, name: str) -> TlsFiles:
        key, request = new_key_and_request(Identity.host(name))
        certificate = self.authority.sign_csr(request, Identity.host(name))
        return TlsFiles.write(self.folder / f"host-{name}", self.authority.certificate_pem, certificate, key)

    def hosts_stub(self, tls: TlsFiles, **options: Any) -> host_pb2_grpc.HostAgentServiceAsyncStub:
        return stub(host_pb2_grpc.HostAgentServiceStub, channel([self.address], tls, server=CONDUCTOR, **options))


def stub(kind: Any, over: grpc.aio.Channel) -> Any:
    return kind(over)


@pytest.fixture
async def cell(tmp_path: Path) -> AsyncIterator[Cell]:
    telemetry.configure("test", ServiceSettings())
    running = Cell(tmp_path)
    server = await running.start()
    yield running
    await server.stop(0)


def ask(host: str) -> host_pb2.GetDesiredStateRequest:
    return host_pb2.GetDesiredStateRequest(host=host)


async def test_the_server_knows_its_peer(cell: Cell) -> None:
    assert (await cell.hosts_stub(cell.service("api-gateway")).GetDesiredState(ask("any"))).position == 42
    assert (await cell.hosts_stub(cell.host("own")).GetDesiredState(ask("own"))).position == 42
    assert cell.hosts.peers == [Identity.service("api-gateway"), Identity.host("own")]
    assert [identity for _, identity in cell.calls] == cell.hosts.peers


async def test_a_host_may_not_act_for_another(cell: Cell) -> None:
    with pytest.raises(PermissionDenied) as refused:
        await cell.hosts_stub(cell.host("other")).GetDesiredState(ask("own"))
    assert refused.value.reason == "NOT_YOUR_HOST"


async def test_the_servers_rule_is_asked_before_the_handler(cell: Cell) -> None:
    with pytest.raises(PermissionDenied):
        await cell.hosts_stub(cell.service("metadata")).GetDesiredState(ask("any"))
    assert cell.hosts.peers == []


async def test_a_stranger_can_not_connect(cell: Cell, tmp_path: Path) -> None:
    stranger = Authority.create(tmp_path / "other-ca").issue_server("api-gateway", [], tmp_path / "stranger")
    trusting = TlsFiles(cell.authority.folder / "ca.crt", stranger.certificate, stranger.key)
    credentials = server_only_credentials(cell.authority.certificate_pem)
    for tls, own in ((trusting, None), (None, credentials), (None, None)):
        over = channel([cell.address], tls, credentials=own, timeout_s=5)
        with pytest.raises(Unavailable):
            await stub(host_pb2_grpc.HostAgentServiceStub, over).GetDesiredState(ask("any"))
        await over.close()
    assert cell.hosts.peers == []


async def test_a_client_refuses_a_server_that_is_somebody_else(cell: Cell) -> None:
    over = channel([cell.address], cell.service("api-gateway"), server=Identity.service("placement"))
    with pytest.raises(Unavailable):
        await stub(host_pb2_grpc.HostAgentServiceStub, over).GetDesiredState(ask("any"))
    assert cell.hosts.peers == []


async def test_a_door_without_client_certificates_knows_nobody(tmp_path: Path) -> None:
    cell = Cell(tmp_path)
    server = await cell.start(require_client=False)
    over = channel([cell.address], None, credentials=server_only_credentials(cell.authority.certificate_pem))
    with acting_as(ALICE):
        await stub(host_pb2_grpc.HostAgentServiceStub, over).GetDesiredState(ask("any"))
    assert cell.hosts.peers == [None]
    assert cell.hosts.principals == [None], "a stranger's word about who it acts for counts for nothing"
    with pytest.raises(Unauthenticated):
        await stub(host_pb2_grpc.HostAgentServiceStub, over).GetDesiredState(ask("own"))
    await server.stop(0)


async def test_errors_arrive_as_the_right_class_with_their_details(cell: Cell) -> None:
    hosts = cell.hosts_stub(cell.service("api-gateway"))
    with pytest.raises(InvalidArgument) as invalid:
        await hosts.GetDesiredState(ask("invalid"))
    assert invalid.value.reason == "BAD_HOST"
    assert invalid.value.violations == (FieldViolation("host", "no such host"),)
    with pytest.raises(NotFound) as missing:
        await hosts.GetDesiredState(ask("missing"))
    assert (missing.value.reason, missing.value.remedy) == ("NO_SUCH_HOST", "enrol it")
    assert not missing.value.retryable


async def test_a_bug_is_told_by_its_correlation_id_alone(cell: Cell) -> None:
    with telemetry.correlated("corr-1"), pytest.raises(CirraError) as caught:
        await cell.hosts_stub(cell.service("api-gateway")).GetDesiredState(ask("bug"))
    assert caught.value.reason == "INTERNAL"
    assert "corr-1" in caught.value.message
    assert "secret" not in caught.value.message


async def test_a_database_that_is_away_is_told_as_passing_and_without_its_address(cell: Cell) -> None:
    with pytest.raises(Unavailable) as caught:
        await cell.hosts_stub(cell.service("api-gateway")).GetDesiredState(ask("database"))
    assert caught.value.retryable
    assert "5432" not in caught.value.message


async def test_waits_are_bounded(cell: Cell) -> None:
    with pytest.raises(DeadlineExceeded):
        await cell.hosts_stub(cell.service("api-gateway"), timeout_s=0.3).GetDesiredState(ask("slow"))


async def test_trace_correlation_and_principal_travel(cell: Cell) -> None:
    hosts = cell.hosts_stub(cell.service("api-gateway"))
    with (
        telemetry.tracer().start_as_current_span("request") as span,
        telemetry.correlated("corr-2"),
        acting_as(ALICE),
    ):
        await hosts.GetDesiredState(ask("any"))
    await hosts.GetDesiredState(ask("any"))
    assert cell.hosts.trace_ids[0] == span.get_span_context().trace_id
    assert cell.hosts.correlations[0] == "corr-2"
    assert cell.hosts.principals == [ALICE, None]
    assert telemetry.valid_correlation_id(cell.hosts.correlations[1])
    assert cell.hosts.correlations[1] != "corr-2"


async def test_a_host_can_not_speak_for_a_user(cell: Cell) -> None:
    with acting_as(ALICE):
        await cell.hosts_stub(cell.host("own")).GetDesiredState(ask("own"))
    assert cell.hosts.principals == [None]


async def test_the_position_comes_with_the_answer(cell: Cell) -> None:
    call = cell.hosts_stub(cell.service("api-gateway")).GetDesiredState(ask("any"))
    await call
    assert position_of(await call.trailing_metadata()) == 42


async def test_a_stream_delivers_and_ends_with_its_error(cell: Cell) -> None:
    over = channel([cell.address], cell.service("api-gateway"), server=CONDUCTOR)
    positions = []
    with telemetry.correlated("corr-3"), pytest.raises(NotFound) as ended:
        async for event in stub(events_pb2_grpc.EventServiceStub, over).WatchEvents(
            events_pb2.WatchEventsRequest(after_position=5)
        ):
            assert event.correlation_id == "corr-3"
            positions.append(event.position)
    assert positions == [6, 7, 8]
    assert ended.value.reason == "TRUNCATED"


async def test_a_stream_that_is_given_up_stops_at_the_server(cell: Cell) -> None:
    over = channel([cell.address], cell.service("api-gateway"), server=CONDUCTOR)
    watch = stub(events_pb2_grpc.EventServiceStub, over).WatchEvents(events_pb2.WatchEventsRequest(resource="endless"))
    async with aclosing(aiter(watch)) as events:
        assert (await anext(events)).position == 1
    async with asyncio.timeout(60):
        await cell.events.stopped.wait()


async def test_an_upload_streams_and_may_be_refused_in_the_middle(cell: Cell) -> None:
    async def chunks(count: int) -> AsyncIterator[image_pb2.UploadImageDataRequest]:
        for _ in range(count):
            yield image_pb2.UploadImageDataRequest(chunk=bytes(1000))

    images = stub(image_pb2_grpc.ImageServiceStub, channel([cell.address], cell.service("api-gateway")))
    assert (await images.UploadImageData(chunks(3))).size_bytes == 3000
    with pytest.raises(InvalidArgument):
        await images.UploadImageData(chunks(50))


async def test_retryable_errors_are_retried_others_not(cell: Cell) -> None:
    hosts = cell.hosts_stub(cell.service("api-gateway"))
    cell.hosts.failures_left = 2
    answer = await retried(lambda: hosts.GetDesiredState(ask("any")), wait_initial_s=0.01)
    assert answer.position == 42
    assert len(cell.hosts.peers) == 3
    with pytest.raises(NotFound):
        await retried(lambda: hosts.GetDesiredState(ask("missing")), wait_initial_s=0.01)
    assert len(cell.hosts.peers) == 4


async def test_calls_go_to_the_replica_that_is_left(tmp_path: Path) -> None:
    cells = [Cell(tmp_path / "a")]
    cells.append(Cell.__new__(Cell))
    cells[1].__dict__ |= {**cells[0].__dict__, "hosts": HostServicer(), "calls": []}  # type: ignore[abstract]
    servers = [await each.start() for each in cells]
    over = channel([each.address for each in cells], cells[0].service("api-gateway"), server=CONDUCTOR)
    hosts = stub(host_pb2_grpc.HostAgentServiceStub, over)

    async def until(condition: Any) -> None:
        async with asyncio.timeout(60):
            while not condition():
                await retried(lambda: hosts.GetDesiredState(ask("any")))

    await until(lambda: cells[0].hosts.peers and cells[1].hosts.peers)
    await servers[0].stop(0)
    before = len(cells[1].hosts.peers)
    await until(lambda: len(cells[1].hosts.peers) >= before + 5)
    # It comes back at the same address, and is used again.
    count = len(cells[0].hosts.peers)
    servers[0] = await cells[0].start(listen=servers[0].address)
    await until(lambda: len(cells[0].hosts.peers) > count)
    for server in servers:
        await server.stop(0)


async def test_health_and_reflection_answer(cell: Cell) -> None:
    over = channel([cell.address], cell.host("own"), server=CONDUCTOR)
    health = stub(health_pb2_grpc.HealthStub, over)
    service = "cirra.agent.v1.HostAgentService"
    assert (await health.Check(health_pb2.HealthCheckRequest(service=service))).status == 1

    async def requests() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")

    answers = stub(reflection_pb2_grpc.ServerReflectionStub, over).ServerReflectionInfo(requests())
    answer = await anext(aiter(answers))
    assert service in {entry.name for entry in answer.list_services_response.service}


async def test_what_is_not_served_is_unimplemented(cell: Cell) -> None:
    over = channel([cell.address], cell.service("api-gateway"), server=CONDUCTOR)
    with pytest.raises(CirraError, match="Method not found"):
        await over.unary_unary("/cirra.no.v1.Such/Method", request_serializer=bytes)(b"")
