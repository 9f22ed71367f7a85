"""Filters, weighers, and the choice between hosts: pure."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from random import Random
from uuid import uuid4

import pytest
from google.protobuf.message import Message

from cirra.placement.v1 import events_pb2 as pb
from cirra.placement.v1 import placement_pb2 as public
from cirra.placement.v1 import scheduling_pb2 as scheduling
from core.eventlog.types import RecordedEvent
from placement.hosts.view import HostView
from placement.scheduling.scheduler import FILTERS, TRIED, WEIGHERS, NoValidHost, Scheduler, installed, virt_type_of

NO_HYPERVISOR = public.Inventory(vcpus=4, memory_mib=8192, disk_gib=100)
INVENTORY = public.Inventory(vcpus=4, memory_mib=8192, disk_gib=100, virt_types=["kvm", "qemu"])


class View(HostView):
    """Fed with messages."""

    def happened(self, message: Message, claim: str = "") -> None:
        self.apply(
            RecordedEvent(
                position=self.position + 1, epoch=1, event_id=uuid4(), aggregate_type="host",
                aggregate_id=uuid4() if not claim else CLAIMS[claim], version=1, type=message.DESCRIPTOR.full_name,
                schema_version=1, data=message.SerializeToString(), recorded_at=datetime.now(UTC), actor="",
                request_id="",
                causation_id="", correlation_id="", traceparent="",
            )
        )  # fmt: skip

    def host(self, name: str, inventory: public.Inventory = INVENTORY, zone: str = "nova") -> None:
        self.happened(pb.HostEnrolled(host=name, availability_zone=zone))
        self.happened(pb.HostInventoryChanged(host=name, inventory=inventory))
        self.happened(pb.HostUp(host=name))


CLAIMS = {name: uuid4() for name in ("a", "b")}
SCHEDULER = Scheduler(installed(FILTERS), installed(WEIGHERS), random=Random(7))


def request(**changes: object) -> scheduling.ClaimRequest:
    asked = scheduling.ClaimRequest(resources=scheduling.Resources(vcpus=1, memory_mib=512, disk_gib=5), attempt=1)
    asked.MergeFrom(scheduling.ClaimRequest(**changes))  # type: ignore[arg-type]
    return asked


@pytest.fixture
def view() -> View:
    view = View()
    for name in ("host-1", "host-2", "host-3"):
        view.host(name)
    return view


def removed(error: NoValidHost) -> dict[str, int]:
    return {each.filter: each.removed for each in error.decision.filters if each.removed}


def test_a_host_that_can_is_chosen_and_the_decision_tells_why(view: View) -> None:
    choice = SCHEDULER.choose(view.table, request())
    assert set(choice.hosts) == {"host-1", "host-2", "host-3"}
    assert choice.decision.hosts_considered == 3
    assert {each.filter for each in choice.decision.filters} >= {"compute_up", "memory_mib", "vcpus", "disk_gib"}
    assert len(choice.decision.scores) == 3


@pytest.mark.parametrize(
    ("event", "filter_name"),
    [
        (pb.HostDown(host="host-1"), "compute_up"),
        (pb.HostSuspected(host="host-1"), "compute_up"),
        (pb.HostDisabled(host="host-1"), "compute_enabled"),
        (pb.HostInventoryChanged(host="host-1", inventory=NO_HYPERVISOR), "virt_type"),
    ],
)
def test_a_host_that_cant_is_left_out(view: View, event: Message, filter_name: str) -> None:
    view.happened(event)
    choice = SCHEDULER.choose(view.table, request())
    assert "host-1" not in choice.hosts
    assert {each.filter: each.removed for each in choice.decision.filters}[filter_name] == 1


@pytest.mark.parametrize(
    ("asked", "filter_name"),
    [
        (request(availability_zone="mars"), "availability_zone"),
        (request(excluded_hosts=["host-1", "host-2", "host-3"]), "not_tried_yet"),
        (request(physical_networks=["physnet1"]), "physical_network"),
        (request(extra_specs={"hw:virt_type": "simulated"}), "virt_type"),
        (request(image_properties={"hw_virt_type": "simulated"}), "virt_type"),
        (request(resources=scheduling.Resources(memory_mib=10_000)), "memory_mib"),
        (request(resources=scheduling.Resources(vcpus=17)), "vcpus"),
        (request(resources=scheduling.Resources(disk_gib=101)), "disk_gib"),
    ],
)
def test_no_valid_host_tells_how_many_each_filter_removed(
    view: View, asked: scheduling.ClaimRequest, filter_name: str
) -> None:
    with pytest.raises(NoValidHost) as caught:
        SCHEDULER.choose(view.table, asked)
    assert removed(caught.value) == {filter_name: 3}
    assert f"{filter_name}: 3 hosts removed" in str(caught.value)
    assert caught.value.remedy


def test_no_hosts_at_all() -> None:
    with pytest.raises(NoValidHost, match="0 of 0 hosts"):
        SCHEDULER.choose(View().table, request())


def test_what_is_claimed_is_not_free_and_comes_back(view: View) -> None:
    taken = scheduling.Resources(vcpus=16, memory_mib=8192, disk_gib=100)
    view.happened(pb.ClaimMade(host="host-1", attempt=1, resources=taken), claim="a")
    assert "host-1" not in SCHEDULER.choose(view.table, request()).hosts
    view.happened(pb.ClaimReleased(host="host-1", attempt=1, resources=taken), claim="a")
    assert "host-1" in SCHEDULER.choose(view.table, request()).hosts


def test_a_claim_of_our_own_counts_once(view: View) -> None:
    made = pb.ClaimMade(host="host-1", attempt=1, resources=scheduling.Resources(vcpus=10))
    held = view.reserve(made)
    assert view.table.free[0].tolist() == [6, 8192, 100]
    view.confirm(held, CLAIMS["a"], 1, view.position + 1)
    view.happened(made, claim="a")
    assert view.table.free[0].tolist() == [6, 8192, 100]


def test_capacity_may_shrink_below_what_is_used(view: View) -> None:
    view.happened(pb.ClaimMade(host="host-1", attempt=1, resources=scheduling.Resources(memory_mib=8000)), claim="a")
    small = public.Inventory(vcpus=4, memory_mib=4096, disk_gib=100, virt_types=["kvm"])
    view.happened(pb.HostInventoryChanged(host="host-1", inventory=small))
    assert view.table.free[0].tolist()[1] == 4096 - 8000
    assert "host-1" not in SCHEDULER.choose(view.table, request()).hosts


def test_guests_are_spread_and_a_negative_multiplier_stacks_them(view: View) -> None:
    view.host("empty", public.Inventory(vcpus=64, memory_mib=65536, disk_gib=1000, virt_types=["kvm"]))
    spread = SCHEDULER.choose(view.table, request()).decision
    assert spread.scores[0].host == "empty"
    multipliers = dict.fromkeys(("vcpus", "memory_mib", "disk_gib"), -1.0)
    stacked = Scheduler(installed(FILTERS), installed(WEIGHERS), multipliers=multipliers).choose(view.table, request())
    assert stacked.decision.scores[-1].host == "empty"


def test_schedulers_that_decide_at_once_dont_all_run_into_one_host(view: View) -> None:
    first = Counter(SCHEDULER.choose(view.table, request()).hosts[0] for _ in range(300))
    assert len(first) == 3
    assert min(first.values()) > 50


def test_the_way_to_run_a_guest_is_the_best_that_the_host_has_unless_asked_otherwise(view: View) -> None:
    assert virt_type_of(view.table, "host-1", request()) == "kvm"
    assert virt_type_of(view.table, "host-1", request(extra_specs={"hw:virt_type": "qemu"})) == "qemu"


def test_many_hosts_fit_in_the_arrays() -> None:
    view = View()
    for number in range(200):
        view.host(f"host-{number}")
    choice = SCHEDULER.choose(view.table, request())
    assert (choice.decision.hosts_considered, len(choice.hosts)) == (200, TRIED)


def test_who_fell_silent_lately_and_could_take_it_is_awaited() -> None:
    now = 100.0
    view = View(monotonic=lambda: now)
    for name in ("host-1", "host-2", "host-3"):
        view.host(name)
    assert view.silent_lately(30) == []
    view.happened(pb.HostSuspected(host="host-1"))
    view.happened(pb.HostDown(host="host-2"))
    view.happened(pb.HostDisabled(host="host-2"))
    assert SCHEDULER.would_take(view.table, request(), view.silent_lately(30)) == ["host-1"]
    assert SCHEDULER.would_take(view.table, request(excluded_hosts=["host-1"]), view.silent_lately(30)) == []
    now += 20
    view.happened(pb.HostDown(host="host-1"))
    assert view.silent_lately(30) == [0, 1], "it is silent since it was suspected"
    now += 10
    assert view.silent_lately(30) == []
    view.happened(pb.HostUp(host="host-1"))
    view.happened(pb.HostSuspected(host="host-1"))
    assert view.silent_lately(30) == [0]
