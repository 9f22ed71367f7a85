"""Commands on hosts: enrolment is the conductor's, the rest is handed to placement, which owns hosts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

import nats.errors
from google.protobuf.timestamp_pb2 import Timestamp

from cirra.conductor.v1 import commands_pb2_grpc
from cirra.conductor.v1.commands_pb2 import Accepted
from cirra.identity.v1.identity_pb2 import Principal
from cirra.placement.v1 import differences_pb2 as pb_differences
from cirra.placement.v1 import placement_pb2 as pb
from cirra.placement.v1.scheduling_pb2 import ApproveHostEvacuationRequest, RegisterHostRequest, SetHostEnabledRequest
from conductor.access import require_admin
from conductor.enrolment.credentials import HostCredentials, Issued
from conductor.enrolment.enrolment import Enrolment, EnrolmentToken, refused_token, used_already
from conductor.fields import Fields, host_name
from conductor.hosts.acceptance import HostAcceptance
from conductor.requests import Commands, Done, Requests
from core.bus import BusUnavailable
from core.context import acting
from core.errors import FailedPrecondition
from core.eventlog.errors import UniqueViolation
from core.ids import host_aggregate_id, uuid7
from core.natsauth.permissions import AGENTS
from core.repository import Repository

if TYPE_CHECKING:
    # A class of the stubs' types alone: at run time there is one stub for both kinds of channel.
    from cirra.placement.v1.scheduling_pb2_grpc import SchedulingServiceAsyncStub

DEFAULT_TTL_S = 3600
MIN_TTL_S = 60
MAX_TTL_S = 7 * 24 * 3600


class Consumers(Protocol):
    """`core.bus.CommandConsumers`: keeps the consumers by which a host's agents get their commands."""

    async def add(self, host: str, agents: Iterable[str]) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Advertised:
    """Where an enrolled host finds the parts that it talks to."""

    nats_urls: tuple[str, ...]
    conductor_addresses: tuple[str, ...]
    metadata_url: str
    image_download_url: str


class HostCommands(Commands, commands_pb2_grpc.HostCommandsServicer):
    """`clock`: Postgres's time, the one by which tokens expire."""

    def __init__(
        self,
        repository: Repository,
        *,
        credentials: HostCredentials,
        advertised: Advertised,
        consumers: Consumers,
        placement: SchedulingServiceAsyncStub,
        acceptance: HostAcceptance,
        clock: Callable[[], Awaitable[datetime]],
        requests: Requests | None = None,
    ) -> None:
        super().__init__(repository, requests)
        self._credentials = credentials
        self._advertised = advertised
        self._consumers = consumers
        self._placement = placement
        self._acceptance = acceptance
        self._clock = clock

    async def CreateEnrolmentToken(self, request: pb.CreateEnrolmentTokenRequest, context: Any) -> pb.EnrolmentToken:
        """Once per request id: the token is shown once and not kept."""
        made: list[pb.EnrolmentToken] = []

        async def act(principal: Principal) -> Done:
            require_admin(principal)
            enrolment, answer = await self._issue(request)
            saved = await self.repository.save(enrolment)
            made.append(answer)
            return Done(enrolment, saved)

        await self.requests.once("CreateEnrolmentToken", request.request_id, Enrolment, act)
        if not made:
            raise FailedPrecondition(
                "this request was answered already, and a token is shown once",
                reason="TOKEN_SHOWN_ONCE",
                remedy="ask for a new token, with another request_id",
            )
        return made[0]

    async def Enroll(self, request: pb.EnrollRequest, context: Any) -> pb.EnrollResponse:
        """The token is the proof: there is no principal. May be repeated with the same keys until it expires."""
        host_name("host", request.host)
        with acting(actor=f"host/{request.host}"):
            enrolment, issued = await self._use(request)
            await self._connect(enrolment)
        return pb.EnrollResponse(
            host=request.host,
            certificate=issued.certificate,
            certificate_authority=self._credentials.certificate_authority,
            nats_jwt=issued.nats_jwt,
            nats_urls=self._advertised.nats_urls,
            conductor_addresses=self._advertised.conductor_addresses,
            metadata_url=self._advertised.metadata_url,
            metadata_proxy_key=issued.metadata_proxy_key,
            cell=self._credentials.cell,
            image_download_url=self._advertised.image_download_url,
            availability_zone=enrolment.availability_zone,
        )

    async def EnableHost(self, request: pb.EnableHostRequest, context: Any) -> Accepted:
        return await self._set_enabled(request.name, True, "")

    async def DisableHost(self, request: pb.DisableHostRequest, context: Any) -> Accepted:
        return await self._set_enabled(request.name, False, request.reason)

    async def ApproveEvacuation(self, request: pb.ApproveEvacuationRequest, context: Any) -> Accepted:
        """Approving twice is once: placement refuses when nothing waits for it."""
        principal = self.requests.principal
        require_admin(principal)
        host = host_name("name", request.name)
        fields = Fields()
        fields.title("reason", request.reason)
        fields.check()
        with acting(actor=principal.user_id):
            answer = await self._placement.ApproveEvacuation(
                ApproveHostEvacuationRequest(host=host, reason=request.reason)
            )
        return Accepted(uid=str(host_aggregate_id(host)), name=f"hosts/{host}", position=answer.position)

    async def ListHostDifferences(self, request: pb_differences.ListHostDifferencesRequest, context: Any) -> Any:
        require_admin(self.requests.principal)
        return await self._acceptance.list(host_name("name", request.name))

    async def AcceptHostDifferences(
        self, request: pb_differences.AcceptHostDifferencesRequest, context: Any
    ) -> Accepted:
        """Idempotent by nature: a host that was accepted is."""
        principal = self.requests.principal
        require_admin(principal)
        host = host_name("name", request.name)
        with acting(actor=principal.user_id):
            position = await self._acceptance.accept(host, request.etag)
        return Accepted(uid=str(host_aggregate_id(host)), name=f"hosts/{host}", position=position)

    async def _set_enabled(self, name: str, enabled: bool, reason: str) -> Accepted:
        """Idempotent by nature: it says what shall be, so its request id needs no memory."""
        principal = self.requests.principal
        require_admin(principal)
        host = host_name("name", name)
        with acting(actor=principal.user_id):
            answer = await self._placement.SetHostEnabled(
                SetHostEnabledRequest(host=host, enabled=enabled, reason=reason)
            )
        return Accepted(uid=str(host_aggregate_id(host)), name=f"hosts/{host}", position=answer.position)

    async def _issue(self, request: pb.CreateEnrolmentTokenRequest) -> tuple[Enrolment, pb.EnrolmentToken]:
        host_name("host", request.host)
        fields = Fields()
        if request.availability_zone:
            fields.label("availability_zone", request.availability_zone)
        if request.ttl_seconds:
            fields.between("ttl_seconds", request.ttl_seconds, MIN_TTL_S, MAX_TTL_S, "seconds")
        fields.check()
        token = EnrolmentToken.generate(uuid7())
        expires_at = await self._clock() + timedelta(seconds=request.ttl_seconds or DEFAULT_TTL_S)
        enrolment = Enrolment.issue(
            token, host=request.host, availability_zone=request.availability_zone, expires_at=expires_at
        )
        expire_time = Timestamp()
        expire_time.FromDatetime(expires_at)
        return enrolment, pb.EnrolmentToken(host=request.host, token=token.text, expire_time=expire_time)

    async def _use(self, request: pb.EnrollRequest) -> tuple[Enrolment, Issued]:
        """Exchanges the token. What was issued counts only once the log has it."""
        token = EnrolmentToken.parse(request.token)
        if await self.repository.find(Enrolment, token.enrolment_id) is None:
            raise refused_token()
        now = await self._clock()
        issued: Issued | None = None

        def decide(enrolment: Enrolment) -> None:
            nonlocal issued
            enrolment.admit(request.host, token, now)
            issued = self._credentials.issue(request.host, request.certificate_request, request.nats_public_key)
            enrolment.use(keys_sha256=issued.keys_sha256, certificate_sha256=issued.certificate_sha256)

        try:
            enrolment, _ = await self.repository.change(Enrolment, token.enrolment_id, decide)
        except UniqueViolation as error:
            raise used_already(request.host) from error
        assert issued is not None
        return enrolment, issued

    async def _connect(self, enrolment: Enrolment) -> None:
        """Its commands can reach it, and placement knows it. All of it may be repeated."""
        try:
            await self._consumers.add(enrolment.host, AGENTS)
        except (nats.errors.Error, TimeoutError) as error:
            raise BusUnavailable(f"the host's consumers could not be made: {error}") from error
        await self._placement.RegisterHost(
            RegisterHostRequest(host=enrolment.host, availability_zone=enrolment.availability_zone)
        )
