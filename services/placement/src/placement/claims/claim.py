"""The claim aggregate: the capacity that one instance holds on one host. Its id: `core.ids.claim_aggregate_id`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field
from uuid import UUID

from cirra.placement.v1 import events_pb2 as pb
from cirra.placement.v1 import scheduling_pb2 as scheduling
from core.aggregate import Aggregate, applies, constrains
from core.errors import FailedPrecondition
from core.eventlog.types import Constraint, CounterAdd
from placement.claims import groups
from placement.hosts.capacity import amounts, capacity_scope


class Claim(Aggregate, kind="claim"):
    """`held`: the claim that stands. `pending`: by attempt, what was given up on hosts that still have the guest.

    `released_up_to`: the highest attempt that was released, also when the release came before its claim.
    `refused_attempt`: the last one for which no host was found.
    """

    held: pb.ClaimMade | None = None
    pending: dict[int, pb.ClaimMade] = field(default_factory=dict)
    released_up_to: int = 0
    refused_attempt: int = 0

    def answer_for(self, attempt: int) -> pb.ClaimMade | None:
        """The claim of this attempt, if it was made before; None: it may be made now.

        Raises `FailedPrecondition` for an attempt that was released already, or while another is held.
        """
        if attempt <= self.released_up_to:
            raise FailedPrecondition(f"attempt {attempt} was released already", reason="CLAIM_RELEASED")
        if self.held is None:
            return None
        if self.held.attempt != attempt:
            raise FailedPrecondition(
                f"attempt {self.held.attempt} holds {self.held.host}: release it first", reason="CLAIM_HELD"
            )
        return self.held

    def refuse(self, refused: pb.ClaimRefused) -> None:
        """No host could take it. Told once per attempt."""
        if refused.attempt > self.refused_attempt:
            self.record(refused)

    def release(
        self, attempt: int, *, pending_cleanup: bool, build_failed: bool = False, group_emptied: bool = False
    ) -> None:
        """Gives back what attempts up to this one hold, and refuses them from now on. Repeating it is one release.

        `pending_cleanup`: the host still has the guest; its capacity stays held until `confirm_cleanup`.
        `build_failed`: it could not be built there. `group_emptied`: its group with affinity has no other member.
        """
        held = self.held
        if held is None or held.attempt > attempt:
            if attempt > self.released_up_to and held is None:
                self.record(pb.ClaimTombstoned(attempt=attempt))
        elif pending_cleanup:
            self.record(
                pb.ClaimCleanupPending(host=held.host, attempt=held.attempt, up_to=attempt, build_failed=build_failed)
            )
        else:
            released = _released(held, attempt, group_emptied=group_emptied)
            released.build_failed = build_failed
            self.record(released)

    def confirm_cleanup(self, host: str, *, group_emptied: bool = False) -> None:
        """Nothing is left on the host."""
        clean = self.pending_on(host)
        for made in clean:
            last = made is clean[-1]
            self.record(_released(made, self.released_up_to, group_emptied=group_emptied and last))

    def pending_on(self, host: str) -> list[pb.ClaimMade]:
        """What was given up there and is held until the host is clean."""
        return [made for made in self.pending.values() if made.host == host]

    @applies(pb.ClaimMade)
    def _made(self, event: pb.ClaimMade) -> None:
        self.held = event

    @applies(pb.ClaimRefused)
    def _was_refused(self, event: pb.ClaimRefused) -> None:
        self.refused_attempt = event.attempt

    @applies(pb.ClaimReleased)
    def _was_released(self, event: pb.ClaimReleased) -> None:
        if self.pending.pop(event.attempt, None) is None:
            self.held = None
        self.released_up_to = max(self.released_up_to, event.up_to)

    @applies(pb.ClaimCleanupPending)
    def _cleanup_pending(self, event: pb.ClaimCleanupPending) -> None:
        if self.held is not None:
            self.pending[self.held.attempt] = self.held
        self.held = None
        self.released_up_to = max(self.released_up_to, event.up_to)

    @applies(pb.ClaimTombstoned)
    def _tombstoned(self, event: pb.ClaimTombstoned) -> None:
        self.released_up_to = max(self.released_up_to, event.attempt)


def _released(made: pb.ClaimMade, up_to: int, *, group_emptied: bool) -> pb.ClaimReleased:
    return pb.ClaimReleased(
        host=made.host,
        attempt=made.attempt,
        resources=made.resources,
        up_to=up_to,
        group=made.group if made.HasField("group") else None,
        group_emptied=group_emptied and made.group.policy == scheduling.GROUP_POLICY_AFFINITY,
    )


def _usage(host: str, resources: scheduling.Resources, sign: int) -> Iterable[Constraint]:
    for resource, amount in amounts(resources).items():
        if amount:
            yield CounterAdd(capacity_scope(resource), host, sign * amount)


@constrains(pb.ClaimMade)
def _taken(claim_id: UUID, event: pb.ClaimMade) -> Iterable[Constraint]:
    yield from _usage(event.host, event.resources, 1)
    yield from groups.joined(event.group, event.host)


@constrains(pb.ClaimReleased)
def _given_back(claim_id: UUID, event: pb.ClaimReleased) -> Iterable[Constraint]:
    yield from _usage(event.host, event.resources, -1)
    yield from groups.left(event.group, event.host, emptied=event.group_emptied)
