"""The SchedulingService: claims that hold, and what the control plane tells of hosts."""

from __future__ import annotations

from uuid import UUID

import grpc
import structlog

from cirra.placement.v1 import events_pb2 as pb
from cirra.placement.v1 import scheduling_pb2 as api
from cirra.placement.v1 import scheduling_pb2_grpc
from core.context import acting
from core.errors import FieldViolation, InvalidArgument, Unavailable
from core.eventlog.errors import LimitExceeded
from core.ids import claim_aggregate_id, host_aggregate_id, parse_uuid
from core.repository import Repository, Saved, again_on_conflict
from placement.claims.claim import Claim
from placement.hosts.host import Host
from placement.hosts.live_view import LiveView
from placement.liveness.tracker import Tracker
from placement.scheduling.scheduler import NoValidHost, Scheduler, virt_type_of

log = structlog.get_logger(__name__)

CATCH_UP_S = 5.0
# How many hosts a claim tries on one view before it looks again.
TRIES = 8


class SchedulingServicer(scheduling_pb2_grpc.SchedulingServiceServicer):
    def __init__(self, repository: Repository, view: LiveView, scheduler: Scheduler, tracker: Tracker) -> None:
        self._repository = repository
        self._view = view
        self._scheduler = scheduler
        self._tracker = tracker

    async def Claim(self, request: api.ClaimRequest, context: grpc.aio.ServicerContext) -> api.ClaimResponse:
        claim_id = _claim_id(request.claim_id)
        if request.attempt < 1:
            raise InvalidArgument(FieldViolation("attempt", "counts from 1"))
        newest = max(request.min_position, (await self._repository.log.head()).position)
        while True:
            at = self._view.position
            try:
                with acting(actor="system/placement"):
                    made, position = await self._try_hosts(claim_id, request)
            except NoValidHost:
                # Only a view at least as new as the request may say so.
                if at >= newest:
                    raise
            else:
                if made is not None:
                    return _response(made, position)
                newest = (await self._repository.log.head()).position  # every host was taken under our eyes
            if not await self._view.wait_for(newest, CATCH_UP_S):
                raise Unavailable(f"the view of the hosts is behind position {newest}; try again")

    async def _try_hosts(self, claim_id: UUID, request: api.ClaimRequest) -> tuple[pb.ClaimMade | None, int]:
        """The claim made (or made before), and the position; None when each host that was tried is full by now."""
        claim = await self._repository.find(Claim, claim_id) or Claim.new(claim_id)
        before = claim.answer_for(request.attempt)
        if before is not None:
            return before, 0
        choice = self._scheduler.choose(self._view.table, request)
        for host in choice.hosts[:TRIES]:
            made = pb.ClaimMade(
                host=host,
                attempt=request.attempt,
                resources=request.resources,
                decision=choice.decision,
                virt_type=virt_type_of(self._view.table, host, request),
                availability_zone=self._view.zone_of(host),
            )
            outcome = await self._claim(claim_id, made)
            if outcome is not None:
                return outcome
        return None, 0

    async def _claim(self, claim_id: UUID, made: pb.ClaimMade) -> tuple[pb.ClaimMade, int] | None:
        """Makes the claim in the log; None if the host's capacity row refuses it."""

        async def once() -> tuple[pb.ClaimMade, int]:
            claim = await self._repository.find(Claim, claim_id) or Claim.new(claim_id)
            before = claim.answer_for(made.attempt)
            if before is not None:
                return before, 0
            claim.record(made)
            saved = await self._repository.save(claim)
            self._view.expect(str(claim_id), made, saved.position)
            return made, saved.position

        try:
            return await again_on_conflict(once)
        except LimitExceeded as full:
            log.info("host is full by now", host=made.host, scope=full.scope)
            return None

    async def ReleaseClaim(
        self, request: api.ReleaseClaimRequest, context: grpc.aio.ServicerContext
    ) -> api.ReleaseClaimResponse:
        claim_id = _claim_id(request.claim_id)

        async def once() -> Saved:
            claim = await self._repository.find(Claim, claim_id) or Claim.new(claim_id)
            claim.release(request.attempt, pending_cleanup=request.pending_cleanup)
            return await self._repository.save(claim)

        with acting(actor="system/placement"):
            saved = await again_on_conflict(once)
        return api.ReleaseClaimResponse(position=saved.position)

    async def ConfirmCleanup(
        self, request: api.ConfirmCleanupRequest, context: grpc.aio.ServicerContext
    ) -> api.ConfirmCleanupResponse:
        claim_id = _claim_id(request.claim_id)

        async def once() -> Saved:
            claim = await self._repository.find(Claim, claim_id)
            if claim is None:
                return Saved(0)
            claim.confirm_cleanup(request.host)
            return await self._repository.save(claim)

        with acting(actor="system/placement"):
            saved = await again_on_conflict(once)
        return api.ConfirmCleanupResponse(position=saved.position)

    async def RegisterHost(
        self, request: api.RegisterHostRequest, context: grpc.aio.ServicerContext
    ) -> api.RegisterHostResponse:
        host_id = host_aggregate_id(request.host)

        async def once() -> Saved:
            host = await self._repository.find(Host, host_id) or Host.new(host_id)
            host.enrol(request.host, request.availability_zone)
            return await self._repository.save(host)

        return api.RegisterHostResponse(position=(await again_on_conflict(once)).position)

    async def SetHostEnabled(
        self, request: api.SetHostEnabledRequest, context: grpc.aio.ServicerContext
    ) -> api.SetHostEnabledResponse:
        def decide(host: Host) -> None:
            if request.enabled:
                host.enable()
            else:
                host.disable(request.reason)

        _, saved = await self._repository.change(Host, host_aggregate_id(request.host), decide)
        position = saved.position or (await self._repository.log.head()).position
        return api.SetHostEnabledResponse(position=position)

    async def GetLiveness(
        self, request: api.GetLivenessRequest, context: grpc.aio.ServicerContext
    ) -> api.GetLivenessResponse:
        return api.GetLivenessResponse(
            entries=[
                api.Liveness(
                    service=heard.component,
                    instance=heard.instance,
                    up=heard.up,
                    silence_ms=heard.silence_ms,
                    boot_id=heard.boot_id,
                    version=heard.version,
                )
                for heard in self._tracker.all()
            ]
        )


def _claim_id(claimant: str) -> UUID:
    instance_id = parse_uuid(claimant)
    if instance_id is None:
        raise InvalidArgument(FieldViolation("claim_id", "give the instance's uid"))
    return claim_aggregate_id(instance_id)


def _response(made: pb.ClaimMade, position: int) -> api.ClaimResponse:
    return api.ClaimResponse(
        host=made.host,
        virt_type=made.virt_type,
        availability_zone=made.availability_zone,
        position=position,
        decision=made.decision,
    )
