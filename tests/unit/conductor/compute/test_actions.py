"""The table of actions, held against the aggregate in each state, and against the page that is made of it."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from uuid import uuid4

import pytest

from cirra.agent.v1 import desired_pb2 as agent
from cirra.compute.v1 import compute_pb2 as public
from cirra.compute.v1 import events_pb2 as pb
from conductor.compute.actions import RULES, Action, State, states_page
from conductor.compute.domain import domain_wish
from conductor.compute.instance import Instance
from conductor.turn import Turn
from core.errors import FailedPrecondition, PermissionDenied

INSTANCE = uuid4()
FAULT = public.Fault(reason="NO_VALID_HOST", message="none")
PAGE = Path(__file__).parents[4] / "docs" / "reference" / "states.md"


def report(sequence: int, state: agent.DomainState.ValueType, *, reason: str = "") -> agent.Report:
    found = agent.Report(host="h1", boot_id="b1", sequence=sequence, generation=1)
    found.domain.state = state
    if reason:
        found.failure.reason = reason
    return found


def built(state: agent.DomainState.ValueType) -> Instance:
    instance = Instance.new(INSTANCE)
    instance.record(pb.InstanceCreated(project_id="p1", task_id="t1"))
    instance.assign_host(Turn("t1", 1), "h1", "qemu", "z")
    wish = domain_wish("h1", agent.DomainSpec(instance_id=str(INSTANCE), power=agent.DESIRED_POWER_ON), create=True)
    instance.desire_domain(Turn("t1", 1), wish)
    instance.observe_domain(report(1, state))
    instance.activate("t1")
    return instance


def in_state(state: State) -> Instance:
    """An instance that came into this state as instances do."""
    match state:
        case State.ACTIVE:
            return built(agent.DOMAIN_STATE_RUNNING)
        case State.SHUTOFF:
            return built(agent.DOMAIN_STATE_SHUTOFF)
        case State.ERROR:
            instance = built(agent.DOMAIN_STATE_RUNNING)
            instance.observe_domain(report(2, agent.DOMAIN_STATE_SHUTOFF, reason="DISK_BUSY"))
            return instance
    instance = Instance.new(INSTANCE)
    instance.record(pb.InstanceCreated(project_id="p1", task_id="t1"))
    if state is State.NOT_BUILT:
        instance.fail("t1", FAULT)
        instance.end_task("t1")
    elif state is State.DELETED:
        instance.delete("t1")
    return instance


@pytest.mark.parametrize("state", State)
def test_each_state_is_reached(state: State) -> None:
    assert in_state(state).state is state


@pytest.mark.parametrize(("action", "state"), [*product(Action, State)])
def test_the_aggregate_does_what_the_table_says(action: Action, state: State) -> None:
    instance = in_state(state)
    busy = bool(instance.task_id)
    if state in RULES[action].states and not (busy and RULES[action].idle):
        instance.permit(action, by_admin=False)
        return
    with pytest.raises(FailedPrecondition) as refused:
        instance.permit(action, by_admin=True)
    assert refused.value.reason in ("INVALID_STATUS", "INSTANCE_BUSY")
    assert state.value in refused.value.message
    assert refused.value.remedy


@pytest.mark.parametrize("action", Action)
def test_what_is_idle_only_is_refused_while_a_task_is_at_work(action: Action) -> None:
    for busy in ("start_task", "request_delete"):
        instance = in_state(State.SHUTOFF if action is Action.START else State.ACTIVE)
        if busy == "start_task":
            instance.start_task("powering-off", "t2")
        else:
            instance.request_delete("t2")
        if not RULES[action].idle:
            instance.permit(action, by_admin=False)
            continue
        with pytest.raises(FailedPrecondition) as refused:
            instance.permit(action, by_admin=True)
        assert refused.value.reason == "INSTANCE_BUSY"


@pytest.mark.parametrize("action", Action)
def test_a_lock_keeps_members_from_what_it_guards(action: Action) -> None:
    instance = in_state(State.SHUTOFF if action is Action.START else State.ACTIVE)
    instance.lock("a demo", by_admin=False)
    instance.permit(action, by_admin=True)
    if not RULES[action].guarded:
        instance.permit(action, by_admin=False)
        return
    with pytest.raises(FailedPrecondition) as refused:
        instance.permit(action, by_admin=False)
    assert (refused.value.reason, "a demo" in refused.value.message) == ("INSTANCE_LOCKED", True)
    instance.unlock(by_admin=False)
    instance.permit(action, by_admin=False)


def test_what_an_administrator_has_locked_only_one_unlocks() -> None:
    instance = in_state(State.ACTIVE)
    instance.lock("", by_admin=True)
    for attempt in (lambda: instance.unlock(by_admin=False), lambda: instance.lock("mine", by_admin=False)):
        with pytest.raises(PermissionDenied):
            attempt()
    instance.unlock(by_admin=True)
    assert instance.locked is None


def test_the_page_says_what_the_table_does() -> None:
    """Read as a person does: header, then a row for each action."""
    page = PAGE.read_text()
    assert page == states_page()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"]
    header, _, *body = rows
    states = [State(name) for name in header[1:-2]]
    assert {*states} == {*State} - {State.DELETED}
    found = {re.sub("`", "", row[0]): dict(zip(header[1:], row[1:], strict=True)) for row in body}
    assert found.keys() == {action.value for action in Action}
    for action in Action:
        cells = found[action.value]
        for state in states:
            instance = in_state(state)
            instance.end_task(instance.task_id)
            try:
                instance.permit(action, by_admin=False)
                allowed = True
            except FailedPrecondition:
                allowed = False
            assert (cells[state.value] == "yes") is allowed, (action, state)
