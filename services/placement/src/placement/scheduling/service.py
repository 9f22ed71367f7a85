"""The SchedulingService: claims, and what the control plane tells of hosts."""

from __future__ import annotations

from uuid import UUID

import grpc

from cirra.placement.v1 import events_pb2 as pb
from cirra.placement.v1 import scheduling_pb2 as api
from cirra.placement.v1 import scheduling_pb2_grpc
from core.context import acting
from core.errors import FieldViolation, InvalidArgument, Unavailable
from core.ids import claim_aggregate_id, host_aggregate_id, parse_uuid
from core.repository import Repository, Saved, again_on_conflict
from placement.hosts.host import Host
from placement.hosts.live_view import LiveView
from placement.liveness.tracker import AGENT_COMPONENTS, Tracker
from placement.scheduling.claiming import CATCH_UP_S, Claiming
from placement.scheduling.scheduler import Scheduler
from placement.scheduling.simulation import MAX_COUNT, simulate

ACTOR = "system/placement"


class SchedulingServicer(scheduling_pb2_grpc.SchedulingServiceServicer):
    """`default_zone`: of hosts that enrol without one."""

    def __init__(
        self,
        repository: Repository,
        view: LiveView,
        scheduler: Scheduler,
        tracker: Tracker,
        *,
        default_zone: str = "nova",
    ) -> None:
        self._repository = repository
        self._view = view
        self._scheduler = scheduler
        self._claiming = Claiming(repository, view, scheduler)
        self._tracker = tracker
        self._default_zone = default_zone

    async def Claim(self, request: api.ClaimRequest, context: grpc.aio.ServicerContext) -> api.ClaimResponse:
        claim_id = _claim_id(request.claim_id)
        if request.attempt < 1:
            raise InvalidArgument(FieldViolation("attempt", "counts from 1"))
        with acting(actor=ACTOR):
            made, position = await self._claiming.claim(claim_id, request)
        return _response(made, position)

    async def ReleaseClaim(
        self, request: api.ReleaseClaimRequest, context: grpc.aio.ServicerContext
    ) -> api.ReleaseClaimResponse:
        with acting(actor=ACTOR):
            saved = await self._claiming.release(_claim_id(request.claim_id), request)
        return api.ReleaseClaimResponse(position=saved.position)

    async def ConfirmCleanup(
        self, request: api.ConfirmCleanupRequest, context: grpc.aio.ServicerContext
    ) -> api.ConfirmCleanupResponse:
        with acting(actor=ACTOR):
            saved = await self._claiming.confirm_cleanup(_claim_id(request.claim_id), request.host)
        return api.ConfirmCleanupResponse(position=saved.position)

    async def Simulate(self, request: api.SimulateRequest, context: grpc.aio.ServicerContext) -> api.SimulateResponse:
        """On the present view, once that is as new as the claim asks for."""
        if not 1 <= request.count <= MAX_COUNT:
            raise InvalidArgument(FieldViolation("count", f"{request.count} is out of range: give 1 to {MAX_COUNT}"))
        if not await self._view.wait_for(request.claim.min_position, CATCH_UP_S):
            raise Unavailable(f"the view of the hosts is behind position {request.claim.min_position}; try again")
        unknown = [host for host in request.without_hosts if self._view.table.find(host) is None]
        if unknown:
            raise InvalidArgument(FieldViolation("without_hosts", f"there is no host {', '.join(unknown)}"))
        position = self._view.position
        answer = await simulate(self._scheduler, self._view.table, request)
        answer.position = position
        return answer

    async def RegisterHost(
        self, request: api.RegisterHostRequest, context: grpc.aio.ServicerContext
    ) -> api.RegisterHostResponse:
        host_id = host_aggregate_id(request.host)

        async def once() -> Saved:
            host = await self._repository.find(Host, host_id) or Host.new(host_id)
            host.enrol(request.host, request.availability_zone or self._default_zone)
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

    async def ApproveEvacuation(
        self, request: api.ApproveHostEvacuationRequest, context: grpc.aio.ServicerContext
    ) -> api.ApproveHostEvacuationResponse:
        _, saved = await self._repository.change(
            Host, host_aggregate_id(request.host), lambda host: host.approve_evacuation(request.reason)
        )
        position = saved.position or (await self._repository.log.head()).position
        return api.ApproveHostEvacuationResponse(position=position)

    async def AcceptHost(
        self, request: api.AcceptHostRequest, context: grpc.aio.ServicerContext
    ) -> api.AcceptHostResponse:
        _, saved = await self._repository.change(
            Host,
            host_aggregate_id(request.host),
            lambda host: host.accept(request.epoch, request.etag, request.differences),
        )
        position = saved.position or (await self._repository.log.head()).position
        return api.AcceptHostResponse(position=position)

    async def GetLiveness(
        self, request: api.GetLivenessRequest, context: grpc.aio.ServicerContext
    ) -> api.GetLivenessResponse:
        return api.GetLivenessResponse(
            entries=[
                api.Liveness(
                    service=f"{heard.component}-agent" if heard.component in AGENT_COMPONENTS else heard.component,
                    instance=heard.instance,
                    up=heard.up,
                    silence_ms=heard.silence_ms,
                    boot_id=heard.boot_id,
                    version=heard.version,
                    host=heard.host,
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
