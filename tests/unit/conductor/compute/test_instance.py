from __future__ import annotations

from uuid import uuid4

import pytest

from cirra.agent.v1 import desired_pb2 as agent
from cirra.compute.v1 import compute_pb2 as public
from cirra.compute.v1 import events_pb2 as pb
from conductor.compute.domain import domain_absent, domain_wish
from conductor.compute.instance import Instance
from conductor.turn import Turn
from core.errors import FailedPrecondition
from tests.unit.conductor.facts import happened, saved

INSTANCE = uuid4()
FIRST, SECOND = Turn("t1", 1), Turn("t1", 2)


def make() -> Instance:
    instance = Instance.new(INSTANCE)
    instance.record(pb.InstanceCreated(project_id="p1", flavor=public.FlavorSummary(vcpus=1), task_id="t1"))
    saved(instance)
    return instance


def wish(host: str) -> agent.DesiredObject:
    return domain_wish(host, agent.DomainSpec(instance_id=str(INSTANCE)), create=True)


def absent(host: str) -> agent.DesiredObject:
    return domain_absent(host, str(INSTANCE))


def test_a_build_that_comes_after_its_removal_is_refused() -> None:
    instance = make()
    instance.assign_host(FIRST, "h1", "qemu", "z")
    instance.remove_domain(FIRST, absent("h1"))
    with pytest.raises(FailedPrecondition) as refused:
        instance.desire_domain(FIRST, wish("h1"))
    assert refused.value.reason == "ATTEMPT_LEFT"
    assert instance.desire_domain(SECOND, wish("h1")).generation == 2


def test_a_removal_that_comes_late_leaves_a_later_domain() -> None:
    instance = make()
    instance.desire_domain(FIRST, wish("h1"))
    instance.remove_domain(FIRST, absent("h1"))
    instance.desire_domain(SECOND, wish("h2"))
    saved(instance)
    instance.remove_domain(FIRST, absent("h1"))
    assert happened(instance) == []


def failure(host: str, generation: int) -> agent.Report:
    report = agent.Report(host=host, boot_id="b1", sequence=generation, generation=generation)
    report.failure.reason = "DISK_BUSY"
    return report


def test_what_a_host_failed_at_is_wished_anew() -> None:
    instance = make()
    assert instance.desire_domain(FIRST, wish("h1")).generation == 1
    assert instance.desire_domain(FIRST, wish("h1")).generation == 1
    instance.observe_domain(failure("h1", 1))
    assert instance.desire_domain(FIRST, wish("h1")).generation == 2


def test_a_removal_that_a_host_failed_at_is_wished_anew() -> None:
    instance = make()
    instance.desire_domain(FIRST, wish("h1"))
    instance.remove_domain(FIRST, absent("h1"))
    instance.remove_domain(FIRST, absent("h1"))
    assert instance.domain is not None and instance.domain.generation == 2
    instance.observe_domain(failure("h1", 2))
    instance.remove_domain(FIRST, absent("h1"))
    assert (instance.domain.generation, instance.domain.absent) == (3, True)


def test_a_host_that_is_assigned_after_it_was_left_is_refused() -> None:
    instance = make()
    instance.leave_host(FIRST)
    assert [type(event) for event in happened(instance)] == [pb.InstanceHostReleased]
    with pytest.raises(FailedPrecondition):
        instance.assign_host(FIRST, "h1", "qemu", "z")
    instance.assign_host(SECOND, "h2", "qemu", "z")
    saved(instance)
    instance.leave_host(FIRST)
    assert (instance.host, happened(instance)) == ("h2", [])


def test_leaving_a_host_twice_is_once() -> None:
    instance = make()
    instance.assign_host(FIRST, "h1", "qemu", "z")
    instance.remove_domain(FIRST, absent("h1"))
    saved(instance)
    instance.leave_host(FIRST)
    instance.leave_host(FIRST)
    assert (instance.host, len(happened(instance))) == ("", 1)


def test_a_new_task_begins_with_attempts_of_its_own() -> None:
    instance = make()
    instance.leave_host(SECOND)
    instance.end_task("t1")
    instance.start_task("migrate", "t2")
    instance.assign_host(Turn("t2", 1), "h1", "qemu", "z")
    assert instance.host == "h1"
    with pytest.raises(FailedPrecondition):
        instance.assign_host(Turn("t1", 9), "h3", "qemu", "z")


def test_activating_twice_is_once_also_when_another_task_is_at_work_by_then() -> None:
    instance = make()
    instance.activate("t1")
    instance.start_task("instance-delete", "t2")
    saved(instance)
    instance.activate("t1")
    assert (happened(instance), instance.task_id) == ([], "t2")


def test_nothing_is_begun_on_a_deleted_instance() -> None:
    instance = make()
    instance.delete("t1")
    with pytest.raises(FailedPrecondition):
        instance.start_task("instance-delete", "t2")


def settled() -> Instance:
    """Built, and nobody at work on it."""
    instance = make()
    instance.assign_host(FIRST, "h1", "qemu", "z")
    instance.desire_domain(FIRST, wish("h1"))
    instance.activate("t1")
    saved(instance)
    return instance


def said(sequence: int, reason: str = "") -> agent.Report:
    """By its host of now: that it runs as it shall, or why not."""
    report = agent.Report(host="h1", boot_id="b1", sequence=sequence, generation=1)
    report.domain.state = agent.DOMAIN_STATE_SHUTOFF if reason else agent.DOMAIN_STATE_RUNNING
    if reason:
        report.failure.reason = reason
    return report


def test_what_its_host_can_t_do_is_its_error_for_as_long_as_that_lasts() -> None:
    instance = settled()
    instance.observe_domain(said(1, "STATE_FOLDER_MISSING"))
    observed, erred = happened(instance)
    assert isinstance(observed, pb.InstanceDomainObserved) and isinstance(erred, pb.InstanceErred)
    assert (erred.fault.reason, erred.host) == ("STATE_FOLDER_MISSING", "h1")
    saved(instance)
    instance.observe_domain(said(2, "STATE_FOLDER_MISSING"))
    assert happened(instance) == []
    instance.observe_domain(said(3, "DISK_MISSING"))
    assert [type(event) for event in happened(instance)][1:] == [pb.InstanceErred]
    saved(instance)
    instance.observe_domain(said(4))
    assert [type(event) for event in happened(instance)][1:] == [pb.InstanceRecovered]
    saved(instance)
    instance.observe_domain(said(5, "DISK_MISSING"))
    assert [type(event) for event in happened(instance)][1:] == [pb.InstanceErred]


def test_what_a_host_says_while_a_task_is_at_work_is_the_tasks_to_judge() -> None:
    instance = settled()
    instance.start_task("instance-delete", "t2")
    saved(instance)
    instance.observe_domain(said(1, "STATE_FOLDER_MISSING"))
    assert [type(event) for event in happened(instance)] == [pb.InstanceDomainObserved]


def test_an_error_of_a_task_does_not_end_by_what_a_host_says() -> None:
    instance = make()
    instance.desire_domain(FIRST, wish("h1"))
    instance.fail("t1", public.Fault(reason="NO_VALID_HOST"))
    instance.end_task("t1")
    saved(instance)
    instance.observe_domain(said(1))
    assert [type(event) for event in happened(instance)] == [pb.InstanceDomainObserved]
