"""After a restore: what differs on a host is listed, and accepted by a person who has seen it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from cirra.placement.v1 import differences_pb2 as public
from cirra.placement.v1.scheduling_pb2 import AcceptHostRequest
from conductor.hosts.contents import HostContents
from conductor.hosts.desired_state import DesiredState
from conductor.hosts.differences import differences, etag_of
from core.errors import Conflict, FailedPrecondition, NotFound

if TYPE_CHECKING:
    # A class of the stubs' types alone: at run time there is one stub for both kinds of channel.
    from cirra.placement.v1.scheduling_pb2_grpc import SchedulingServiceAsyncStub

WITH_OBJECTS = ("compute", "net")
"""The agents that have objects: each must have told what it has."""


class HostAcceptance:
    """`caught_up` returns once the projection of desired state has all that is in the log."""

    def __init__(
        self,
        desired_state: DesiredState,
        contents: HostContents,
        placement: SchedulingServiceAsyncStub,
        caught_up: Callable[[], Awaitable[object]],
    ) -> None:
        self._desired_state = desired_state
        self._contents = contents
        self._placement = placement
        self._caught_up = caught_up

    async def list(self, host: str) -> public.HostDifferences:
        """What differs on a host. Nothing while it acts: then reconcile has the say. Raises NotFound."""
        await self._caught_up()
        standing = await self._desired_state.standing(host)
        if not standing.accepted_epoch:
            raise NotFound(f"no host {host!r}")
        answer = public.HostDifferences(
            name=f"hosts/{host}",
            epoch=standing.epoch,
            accepted_epoch=standing.accepted_epoch,
            observe_only=standing.observe_only,
        )
        if standing.observe_only:
            reported = await self._contents.of(host, standing.epoch)
            awaited = set(WITH_OBJECTS) - {each.agent for each in reported}
            answer.awaited_agents.extend(sorted(awaited))
            desired = [wish for each in reported for wish in await self._desired_state.of_host(host, each.agent, 0)]
            answer.differences.extend(differences(desired, [seen for each in reported for seen in each.objects]))
            _require_not_ahead(standing.epoch, max((each.acted_epoch for each in reported), default=0))
        answer.etag = etag_of(standing.epoch, answer.differences)
        return answer

    async def accept(self, host: str, etag: str) -> int:
        """From here on the host does what the log says; the position of that. The same again changes nothing.

        Raises FailedPrecondition before all its agents have told what they have, Conflict for another list.
        """
        listed = await self.list(host)
        if not listed.observe_only:
            return 0
        if listed.awaited_agents:
            raise FailedPrecondition(
                f"{host} has not told yet what it has: {', '.join(listed.awaited_agents)}",
                reason="HOST_NOT_INSPECTED",
                remedy="see that its agents run, and try again",
            )
        if etag != listed.etag:
            raise Conflict(
                f"what differs on {host} is not what was listed",
                reason="DIFFERENCES_CHANGED",
                retryable=False,
                remedy="list the differences again, and accept those",
            )
        answer = await self._placement.AcceptHost(
            AcceptHostRequest(host=host, epoch=listed.epoch, etag=etag, differences=listed.differences)
        )
        return answer.position


def _require_not_ahead(epoch: int, acted_epoch: int) -> None:
    if acted_epoch >= epoch:
        raise FailedPrecondition(
            f"the host has acted in epoch {acted_epoch}, and the log is in {epoch}: it is older still",
            reason="EPOCH_BEHIND_HOST",
            remedy=f"raise it above the host's: cirra-deploy restored --above {acted_epoch}",
        )
