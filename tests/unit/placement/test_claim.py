"""Claims: once per attempt, released once, refused after their release."""

from __future__ import annotations

import pytest

from cirra.placement.v1 import events_pb2 as pb
from cirra.placement.v1 import placement_pb2 as public
from cirra.placement.v1 import scheduling_pb2 as scheduling
from core.aggregate import constraints_of
from core.errors import FailedPrecondition
from core.eventlog.types import CounterAdd, CounterLimit
from core.ids import uuid7
from placement.claims.claim import Claim
from placement.hosts import host as _host  # noqa: F401 - it says what an inventory constrains
from placement.hosts.capacity import capacity_of

RESOURCES = scheduling.Resources(vcpus=2, memory_mib=512, disk_gib=0)


def made(attempt: int = 1) -> pb.ClaimMade:
    return pb.ClaimMade(host="host-1", attempt=attempt, resources=RESOURCES)


def held(attempt: int = 1) -> Claim:
    claim = Claim.new(uuid7())
    claim.record(made(attempt))
    return claim


def names(claim: Claim) -> list[str]:
    return [type(event).__name__ for event in claim.pending_events]


def test_the_same_attempt_again_is_the_same_claim() -> None:
    assert Claim.new(uuid7()).answer_for(1) is None
    assert held().answer_for(1) == made()


def test_another_attempt_waits_for_the_release() -> None:
    claim = held()
    with pytest.raises(FailedPrecondition, match="release it first"):
        claim.answer_for(2)
    claim.release(1, pending_cleanup=False)
    assert claim.answer_for(2) is None


def test_a_released_attempt_is_refused() -> None:
    claim = held()
    claim.release(1, pending_cleanup=False)
    with pytest.raises(FailedPrecondition) as refused:
        claim.answer_for(1)
    assert refused.value.reason == "CLAIM_RELEASED"


def test_a_release_before_its_claim_leaves_a_tombstone() -> None:
    claim = Claim.new(uuid7())
    claim.release(1, pending_cleanup=False)
    assert names(claim) == ["ClaimTombstoned"]
    with pytest.raises(FailedPrecondition):
        claim.answer_for(1)
    assert claim.answer_for(2) is None


def test_releasing_twice_is_once() -> None:
    claim = held()
    claim.release(1, pending_cleanup=False)
    claim.release(1, pending_cleanup=False)
    assert names(claim) == ["ClaimMade", "ClaimReleased"]


def test_an_older_release_does_not_touch_a_newer_claim() -> None:
    claim = held(attempt=2)
    claim.release(1, pending_cleanup=False)
    assert claim.held is not None


def test_a_claim_that_awaits_clean_up_is_held_until_the_host_is_clean() -> None:
    claim = held()
    claim.release(1, pending_cleanup=True)
    claim.release(1, pending_cleanup=True)
    claim.confirm_cleanup("host-2")
    assert claim.pending.keys() == {1}
    claim.confirm_cleanup("host-1")
    claim.confirm_cleanup("host-1")
    assert claim.pending == {}
    assert names(claim) == ["ClaimMade", "ClaimCleanupPending", "ClaimReleased"]


def test_another_attempt_need_not_wait_for_the_clean_up() -> None:
    claim = held()
    claim.release(1, pending_cleanup=True)
    assert claim.answer_for(2) is None
    claim.record(made(2))
    claim.confirm_cleanup("host-1")
    assert claim.held == made(2)


def test_a_release_of_everything_refuses_all_later_attempts() -> None:
    claim = held()
    claim.release(2**31 - 1, pending_cleanup=False)
    with pytest.raises(FailedPrecondition):
        claim.answer_for(2)


def test_a_claim_takes_capacity_and_its_release_gives_it_back() -> None:
    taken = list(constraints_of(uuid7(), made()))
    assert taken == [CounterAdd("capacity/vcpus", "host-1", 2), CounterAdd("capacity/memory_mib", "host-1", 512)]
    back = list(constraints_of(uuid7(), pb.ClaimReleased(host="host-1", attempt=1, resources=RESOURCES)))
    assert back == [CounterAdd("capacity/vcpus", "host-1", -2), CounterAdd("capacity/memory_mib", "host-1", -512)]


def test_an_inventory_limits_capacity() -> None:
    inventory = public.Inventory(vcpus=4, memory_mib=8192, disk_gib=100, reserved_memory_mib=192)
    limits = set(constraints_of(uuid7(), pb.HostInventoryChanged(host="h", inventory=inventory)))
    assert limits == {
        CounterLimit("capacity/vcpus", "h", 16),
        CounterLimit("capacity/memory_mib", "h", 8000),
        CounterLimit("capacity/disk_gib", "h", 100),
    }


@pytest.mark.parametrize(("ratio", "reserved", "capacity"), [(0.0, 0, 16), (2.0, 0, 8), (1.0, 3, 1), (1.0, 9, 0)])
def test_ratios_and_reserves(ratio: float, reserved: int, capacity: int) -> None:
    inventory = public.Inventory(vcpus=4, vcpu_allocation_ratio=ratio, reserved_vcpus=reserved)
    assert capacity_of(inventory)["vcpus"] == capacity
