"""Whether a host that is down may be evacuated: what a later saga asks."""

from __future__ import annotations

import pytest

from core.errors import FailedPrecondition
from core.ids import host_aggregate_id
from placement.hosts.host import Evacuation, Host


@pytest.fixture
def host() -> Host:
    host = Host.new(host_aggregate_id("h1"))
    host.enrol("h1", "nova")
    host.declare_up({"compute": "b1", "net": "b1"})
    return host


def test_a_host_that_is_heard_has_nothing_to_evacuate(host: Host) -> None:
    assert host.evacuation is Evacuation.NONE
    host.hold_evacuation("3 hosts fell silent together", 3)
    assert host.evacuation is Evacuation.NONE
    with pytest.raises(FailedPrecondition):
        host.approve_evacuation("seen")


def test_one_that_fell_alone_needs_nobody(host: Host) -> None:
    host.declare_down(["compute"])
    assert host.evacuation is Evacuation.ALLOWED
    with pytest.raises(FailedPrecondition) as raised:
        host.approve_evacuation("seen")
    assert raised.value.reason == "EVACUATION_NOT_HELD"


def test_one_that_fell_with_others_waits_for_a_person(host: Host) -> None:
    host.declare_down(["compute"])
    host.hold_evacuation("3 hosts fell silent together", 3)
    assert host.evacuation is Evacuation.HELD
    host.approve_evacuation("the rack burnt")
    host.approve_evacuation("the rack burnt")
    host.hold_evacuation("4 hosts fell silent together", 4)
    assert host.evacuation is Evacuation.APPROVED
    kinds = [type(event).__name__ for event in host.pending_events]
    assert kinds[-2:] == ["HostEvacuationHeld", "HostEvacuationApproved"]


def test_it_ends_when_the_host_is_heard_again(host: Host) -> None:
    host.declare_down(["compute"])
    host.hold_evacuation("3 hosts fell silent together", 3)
    host.declare_up({"compute": "b1", "net": "b1"})
    assert host.evacuation is Evacuation.NONE
