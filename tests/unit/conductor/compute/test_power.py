"""Power of an instance: what its tasks wish, take back, and leave behind."""

from __future__ import annotations

import pytest

from cirra.agent.v1 import desired_pb2 as agent
from cirra.conductor.v1.sagas_pb2 import GuestPower
from conductor.compute.actions import State
from conductor.compute.instance import Instance
from conductor.compute.wishes import power_of, set_power
from conductor.turn import Turn
from core.errors import FailedPrecondition
from tests.unit.conductor.compute.test_actions import in_state, report
from tests.unit.conductor.facts import happened, saved

TURN = Turn("t2", 1)


def wished(instance: Instance, power: GuestPower) -> agent.DesiredObject:
    assert instance.domain is not None
    wish = agent.DesiredObject()
    wish.CopyFrom(instance.domain)
    set_power(wish.domain, power)
    return wish


def power(instance: Instance) -> GuestPower:
    assert instance.domain is not None
    return power_of(instance.domain.domain)


def test_a_task_that_gives_up_leaves_the_power_as_it_was_and_nothing_comes_after_it() -> None:
    instance = in_state(State.ACTIVE)
    earlier = power(instance)
    instance.start_task("rebooting", "t2")
    wish = wished(instance, GuestPower(power=agent.DESIRED_POWER_ON, boot=1))
    instance.desire_domain(TURN, wish)
    instance.power_back("t2", earlier)
    assert (power(instance), instance.task_id, instance.boots) == (earlier, "", 1)
    assert instance.domain is not None and not instance.domain.create, "what is taken back makes no disk"
    with pytest.raises(FailedPrecondition):
        instance.desire_domain(TURN, wish)
    saved(instance)
    instance.power_back("t2", earlier)
    assert happened(instance) == []


def test_a_task_that_wished_nothing_takes_nothing_back() -> None:
    instance = in_state(State.ACTIVE)
    instance.start_task("powering-off", "t2")
    saved(instance)
    instance.power_back("t2", power(instance))
    assert [type(event).__name__ for event in happened(instance)] == ["InstanceTaskEnded"]


def test_a_reboot_ends_the_error_that_its_host_told() -> None:
    instance = in_state(State.ERROR)
    instance.start_task("rebooting_hard", "t2")
    wish = instance.desire_domain(TURN, wished(instance, GuestPower(power=agent.DESIRED_POWER_ON, boot=1)))
    told = report(3, agent.DOMAIN_STATE_RUNNING)
    told.generation = wish.generation
    instance.observe_domain(told)
    instance.power_done("t2")
    assert instance.state is State.ACTIVE


def test_labels_that_are_so_already_are_no_event() -> None:
    instance = in_state(State.ACTIVE)
    instance.update("web", {"role": "db"}, ["a"])
    saved(instance)
    instance.update("web", {"role": "db"}, ["a"])
    assert happened(instance) == []
    instance.update("web", {"role": "db"}, [])
    assert [list(event.update_mask.paths) for event in happened(instance)] == [["tags"]]  # type: ignore[attr-defined]
    assert (instance.tags, instance.metadata) == ([], {"role": "db"})
