"""What became of each attempt to find a host, from a claim's events."""

from __future__ import annotations

from uuid import UUID

from api_gateway.api.decisions import attempts
from cirra.placement.v1 import decisions_pb2 as pb
from cirra.placement.v1 import events_pb2 as events
from cirra.placement.v1 import scheduling_pb2 as scheduling
from tests.unit.api_gateway.history import History

CLAIM = UUID("0197a000-0000-7000-8000-0000000000c1")
DECISION = scheduling.Decision(hosts_considered=3, scores=[scheduling.HostScore(host="h1", score=1.0)])


def test_each_attempt_has_its_outcome() -> None:
    history = History()
    for message in (
        events.ClaimMade(host="h1", attempt=1, decision=DECISION),
        events.ClaimReleased(host="h1", attempt=1, up_to=1, build_failed=True),
        events.ClaimMade(host="h2", attempt=2),
        events.ClaimCleanupPending(host="h2", attempt=2, up_to=2),
        events.ClaimRefused(attempt=3, message="0 of 3 hosts can take it"),
        events.ClaimMade(host="h3", attempt=3),
        events.ClaimReleased(host="h2", attempt=2, up_to=3),
        events.ClaimTombstoned(attempt=4),
    ):
        history.add("claim", CLAIM, message)
    told = [(each.attempt, each.host, each.outcome) for each in attempts(history.events)]
    assert told == [
        (1, "h1", pb.PLACEMENT_OUTCOME_BUILD_FAILED),
        (2, "h2", pb.PLACEMENT_OUTCOME_RELEASED),
        (3, "", pb.PLACEMENT_OUTCOME_REFUSED),
        (3, "h3", pb.PLACEMENT_OUTCOME_CLAIMED),
    ]
    first, second, refused, _ = attempts(history.events)
    assert first.decision == DECISION and first.HasField("release_time")
    assert refused.message == "0 of 3 hosts can take it" and not refused.HasField("release_time")
    assert (first.position, second.position) == (1, 3)
