"""Claims that hold: choose, append, try the next host; and giving them back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

import structlog

from cirra.placement.v1 import events_pb2 as pb
from cirra.placement.v1 import scheduling_pb2 as api
from core.errors import Conflict, Unavailable
from core.eventlog.errors import CounterUnderflow, LimitExceeded, UniqueViolation, VersionConflict
from core.repository import Repository, Saved, again_on_conflict
from placement.claims import groups
from placement.claims.claim import Claim
from placement.hosts.live_view import LiveView
from placement.scheduling.refusal import HostsAwaited, NoValidHost
from placement.scheduling.scheduler import Scheduler, virt_type_of

log = structlog.get_logger(__name__)

CATCH_UP_S = 5.0
# How often a claim chooses anew when others were quicker each time.
MAX_CHOICES = 32
# How long hosts that fell silent are waited for by what no other host can take: longer than the restart of an agent on
# a busy machine, and well within the deadline of the step that claims.
AWAITED_S = 30.0

Made = tuple[pb.ClaimMade, int]


class Claiming:
    """The view of this replica proposes hosts, the constraint rows of the log decide."""

    def __init__(self, repository: Repository, view: LiveView, scheduler: Scheduler) -> None:
        self._repository = repository
        self._view = view
        self._scheduler = scheduler

    async def claim(self, claim_id: UUID, request: api.ClaimRequest) -> Made:
        """The claim that was made, now or before, and the position (0 for one made before).

        Raises NoValidHost, only from a view at least as new as the log was when the request came; FailedPrecondition
        for an attempt that was released, or while another is held; Conflict; HostsAwaited, Unavailable.
        """
        if request.attempt > 1:
            known = await self._earlier(claim_id, request.attempt)
            if known is not None:
                return known, 0
        newest: int | None = None
        for _ in range(MAX_CHOICES):
            position = self._view.position
            try:
                made = await self._try_hosts(claim_id, request)
            except NoValidHost as refusal:
                if newest is not None and position >= newest:
                    self._require_none_awaited(request, refusal)
                    return await self._refuse(claim_id, request, refusal)
            else:
                if made is not None:
                    return made
            newest = max(request.min_position, (await self._repository.log.head()).position)
            if not await self._view.wait_for(newest, CATCH_UP_S):
                raise Unavailable(f"the view of the hosts is behind position {newest}; try again")
        raise Conflict(f"every host was taken by others {MAX_CHOICES} times in a row; try again")

    def _require_none_awaited(self, request: api.ClaimRequest, refusal: NoValidHost) -> None:
        """Raises HostsAwaited while a host that could take it may come back."""
        silent = self._view.silent_lately(AWAITED_S)
        awaited = self._scheduler.would_take(self._view.table, request, silent) if silent else []
        if awaited:
            raise HostsAwaited(awaited) from refusal

    async def _earlier(self, claim_id: UUID, attempt: int) -> pb.ClaimMade | None:
        claim = await self._repository.find(Claim, claim_id)
        return None if claim is None else claim.answer_for(attempt)

    async def _try_hosts(self, claim_id: UUID, request: api.ClaimRequest) -> Made | None:
        """None when each host that was tried is full by now."""
        choice = self._scheduler.choose(self._view.table, request)
        for host in choice.hosts:
            made = pb.ClaimMade(
                host=host,
                attempt=request.attempt,
                resources=request.resources,
                decision=choice.decision,
                virt_type=virt_type_of(self._view.table, host, request),
                availability_zone=self._view.zone_of(host),
                group=request.group if request.HasField("group") else None,
            )
            try:
                return await self._append(claim_id, made)
            except LimitExceeded as full:
                log.info("host is full by now", host=host, scope=full.scope)
            except UniqueViolation as elsewhere:
                # Its group has gone to another host meanwhile: the view will tell which.
                log.info("group is elsewhere by now", host=host, group_host=elsewhere.owner)
                return None
        return None

    async def _append(self, claim_id: UUID, made: pb.ClaimMade) -> Made:
        """Makes the claim in the log, counted with from before. Most claims are new ones: the log is asked for an
        earlier one only once it has refused this as the first event.
        """
        held = self._view.reserve(made)
        kept = False
        try:
            answer, position = await self._make(claim_id, made)
            if position:
                self._view.confirm(held, claim_id, made.attempt, position)
                kept = True
            return answer, position
        finally:
            if not kept:
                self._view.cancel(held)

    async def _make(self, claim_id: UUID, made: pb.ClaimMade) -> Made:
        if made.attempt == 1:
            claim = Claim.new(claim_id)
            claim.record(made)
            try:
                # Patient: who asked has the answer, and what it is for will be heard of after it.
                return made, (await self._repository.save(claim, patient=True)).position
            except VersionConflict:
                log.debug("claim is known already", claim=str(claim_id))

        async def once() -> Made:
            claim = await self._repository.find(Claim, claim_id) or Claim.new(claim_id)
            before = claim.answer_for(made.attempt)
            if before is not None:
                return before, 0
            claim.record(made)
            return made, (await self._repository.save(claim, patient=True)).position

        return await again_on_conflict(once)

    async def _refuse(self, claim_id: UUID, request: api.ClaimRequest, refusal: NoValidHost) -> Made:
        """Records why, unless the claim was made before; raises the refusal then."""
        refused = pb.ClaimRefused(
            attempt=request.attempt,
            resources=request.resources,
            decision=refusal.decision,
            message=refusal.message,
        )

        async def once() -> pb.ClaimMade | None:
            claim = await self._repository.find(Claim, claim_id) or Claim.new(claim_id)
            before = claim.answer_for(request.attempt)
            if before is None:
                claim.refuse(refused)
                await self._repository.save(claim)
            return before

        before = await again_on_conflict(once)
        if before is None:
            raise refusal
        return before, 0

    async def release(self, claim_id: UUID, request: api.ReleaseClaimRequest) -> Saved:
        """Absent is success, and leaves a tombstone."""

        async def once() -> Saved:
            claim = await self._repository.find(Claim, claim_id) or Claim.new(claim_id)
            claim.release(
                request.attempt,
                pending_cleanup=request.pending_cleanup,
                build_failed=request.build_failed,
                group_emptied=await self._is_last([claim.held] if claim.held else []),
            )
            return await self._repository.save(claim)

        return await _again_when_members_moved(once)

    async def confirm_cleanup(self, claim_id: UUID, host: str) -> Saved:
        """Gives back what was held there "pending clean-up"."""

        async def once() -> Saved:
            claim = await self._repository.find(Claim, claim_id)
            if claim is None:
                return Saved(0)
            claim.confirm_cleanup(host, group_emptied=await self._is_last(claim.pending_on(host)))
            return await self._repository.save(claim)

        return await _again_when_members_moved(once)

    async def _is_last(self, leaving: list[pb.ClaimMade]) -> bool:
        """Whether they seem to be the last members of a group with affinity; the append makes sure."""
        group = leaving[0].group if leaving else api.GroupRule()
        if group.policy != api.GROUP_POLICY_AFFINITY:
            return False
        members = await self._repository.log.counter(groups.MEMBERS, group.group_id)
        return members.used <= len(leaving)


async def _again_when_members_moved(once: Callable[[], Awaitable[Saved]]) -> Saved:
    """Others joined or left the group between the look and the append: look again."""
    last: LimitExceeded | CounterUnderflow
    for _ in range(MAX_CHOICES):
        try:
            return await again_on_conflict(once)
        except (LimitExceeded, CounterUnderflow) as moved:
            if moved.scope != groups.MEMBERS:
                raise
            last = moved
    raise Conflict(f"the members of a group changed {MAX_CHOICES} times in a row; try again") from last
