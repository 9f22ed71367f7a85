"""What comes next in a run of a saga: pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from cirra.conductor.v1.sagas_pb2 import HostClaimed, InstanceCreateParams
from cirra.operations.v1 import events_pb2 as pb
from cirra.operations.v1.operations_pb2 import OperationError
from core.saga import Saga, SagaRun, Step
from core.saga.plan import Action, Cancel, Complete, DoStep, UndoStep, Unwind, may_restart, next_action, side_by_side

PARAMS = InstanceCreateParams(instance_id="i", port_ids=["p1", "p2"])


async def nothing(ctx: Any) -> None:
    return None


SAGA: Saga[InstanceCreateParams] = Saga(
    name="make",
    params=InstanceCreateParams,
    steps=(
        Step(name="accept", do=nothing, undo=nothing),
        Step(name="claim", do=nothing, undo=nothing),
        Step(name="bind", do=nothing, undo=nothing, each="port_ids"),
        Step(name="start", do=nothing, no_undo="claim's undo does it", pivot=True),
        Step(name="tell", do=nothing, no_undo="after the pivot"),
    ),
    restart_from="claim",
    max_attempts=2,
)


def run_of(*events: Any) -> SagaRun:
    run = SagaRun.new(uuid4())
    run.record(pb.SagaStarted(saga="make", runner="me"))
    for event in events:
        run.record(event)
    return run


def started(step: str, item: str = "", attempt: int = 1) -> pb.StepStarted:
    return pb.StepStarted(step=step, item=item, attempt=attempt)


def done(step: str, item: str = "", attempt: int = 1) -> list[Any]:
    succeeded = pb.StepSucceeded(step=step, item=item, attempt=attempt)
    succeeded.result.Pack(HostClaimed(host="h"))
    return [started(step, item, attempt), succeeded]


def failed(step: str, item: str = "", *, reschedule: bool = False) -> pb.StepFailed:
    return pb.StepFailed(step=step, item=item, attempt=1, error=OperationError(reason="BAD"), reschedule=reschedule)


def undone(step: str, item: str = "") -> pb.StepUndone:
    return pb.StepUndone(step=step, item=item, attempt=1)


BOUND = [*done("accept"), *done("claim"), *done("bind", "p1"), *done("bind", "p2")]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([], DoStep(("accept", ""), 1, False)),
        ([started("accept")], DoStep(("accept", ""), 1, True)),
        (done("accept"), DoStep(("claim", ""), 1, False)),
        ([*done("accept"), *done("claim"), *done("bind", "p1")], DoStep(("bind", "p2"), 1, False)),
        ([*BOUND, *done("start"), *done("tell")], Complete()),
    ],
)
def test_forward_one_item_at_a_time(events: list[Any], expected: Action) -> None:
    assert next_action(SAGA, run_of(*events), PARAMS) == expected


def test_a_failure_undoes_backwards_also_the_step_that_may_have_run() -> None:
    events = [*BOUND[:-1], failed("bind", "p2")]
    order = []
    while isinstance(action := next_action(SAGA, run_of(*events), PARAMS), UndoStep):
        order.append(action.key)
        events.append(undone(*action.key))
    assert order == [("bind", "p2"), ("bind", "p1"), ("claim", ""), ("accept", "")]
    assert action == Unwind()


def test_a_failure_that_may_go_better_elsewhere_unwinds_to_the_restart_step_only() -> None:
    events = [*done("accept"), *done("claim"), started("bind", "p1"), failed("bind", "p1", reschedule=True)]
    assert next_action(SAGA, run_of(*events), PARAMS) == UndoStep(("bind", "p1"), 1)
    events += [undone("bind", "p1"), undone("claim")]
    run = run_of(*events)
    assert next_action(SAGA, run, PARAMS) == DoStep(("claim", ""), 2, False)
    assert [packed.type_url.endswith("HostClaimed") for _, packed in run.earlier] == [True]


def test_the_last_attempt_may_not_restart() -> None:
    run = run_of(*done("accept"), started("claim"))
    assert may_restart(SAGA, run, ("claim", ""))
    assert not may_restart(SAGA, run, ("accept", ""))
    run.record(started("claim", attempt=2))
    assert not may_restart(SAGA, run, ("claim", ""))


def test_a_cancel_before_the_pivot_unwinds_after_it_the_saga_goes_on() -> None:
    cancel = pb.SagaCancelRequested(reason="deleted")
    assert next_action(SAGA, run_of(*done("accept"), cancel), PARAMS) == Cancel()
    assert next_action(SAGA, run_of(*BOUND, *done("start"), cancel), PARAMS) == DoStep(("tell", ""), 1, False)


def test_a_cancel_while_rescheduling_unwinds_everything() -> None:
    events = [*done("accept"), *done("claim"), failed("claim", reschedule=True), undone("claim")]
    assert next_action(SAGA, run_of(*events), PARAMS) == DoStep(("claim", ""), 2, False)
    cancelled = run_of(*events, pb.SagaCancelRequested())
    assert next_action(SAGA, cancelled, PARAMS) == UndoStep(("accept", ""), 1)


@pytest.mark.parametrize("end", [pb.SagaCompleted(), pb.SagaUnwound(), pb.SagaResolved(), pb.SagaStuck()])
def test_nothing_comes_after_the_end_nor_while_stuck(end: Any) -> None:
    assert next_action(SAGA, run_of(*done("accept"), end), PARAMS) is None


def test_a_stuck_saga_that_is_retried_goes_on_where_it_was() -> None:
    events = [*done("accept"), started("claim"), failed("claim"), pb.SagaStuck(), pb.SagaRetried()]
    assert next_action(SAGA, run_of(*events), PARAMS) == UndoStep(("claim", ""), 1)


def test_a_step_says_why_it_has_no_undo() -> None:
    with pytest.raises(TypeError, match="no_undo"):
        Step(name="bare", do=nothing)


SIDES: dict[str, dict[str, Any]] = {
    "bind": {"beside": "bind"},
    "start": {"beside": "bind", "pivot": False},
    "tell": {"pivot": True},
}
BESIDE = replace(SAGA, steps=tuple(replace(step, **SIDES.get(step.name, {})) for step in SAGA.steps))
CLAIMED = [*done("accept"), *done("claim")]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (done("accept"), [("claim", "")]),
        (CLAIMED, [("bind", "p1"), ("bind", "p2"), ("start", "")]),
        ([*CLAIMED, *done("bind", "p1"), started("start")], [("bind", "p2"), ("start", "")]),
        ([*CLAIMED, *done("bind", "p1"), *done("start")], [("bind", "p2")]),
        ([*BOUND, *done("start")], [("tell", "")]),
    ],
)
def test_steps_side_by_side_are_those_that_have_not_succeeded(events: list[Any], expected: list[Any]) -> None:
    run = run_of(*events)
    first = next_action(BESIDE, run, PARAMS)
    assert isinstance(first, DoStep)
    together = side_by_side(BESIDE, run, PARAMS, first)
    assert [action.key for action in together] == expected
    assert [action.started for action in together] == [key in run.steps for key in expected]


RENEWED = replace(
    SAGA,
    steps=tuple(
        replace(step, name="spawn", undo=nothing, no_undo="", formerly=("build", "start"))
        if step.name == "start"
        else step
        for step in SAGA.steps
    ),
)


def test_what_was_done_by_an_older_table_is_done_anew_by_the_step_that_took_it_over() -> None:
    run = run_of(*BOUND, *done("build"), started("start"))
    assert next_action(RENEWED, run, PARAMS) == DoStep(("spawn", ""), 1, False)


def test_what_was_done_by_an_older_table_is_undone_by_the_step_that_took_it_over() -> None:
    events = [*BOUND, *done("build"), started("start"), failed("start", reschedule=True)]
    assert may_restart(RENEWED, run_of(*events), ("start", ""))
    order = []
    while isinstance(action := next_action(RENEWED, run_of(*events), PARAMS), UndoStep):
        order.append(action.key[0])
        events.append(undone(*action.key))
    assert order == ["start", "build", "bind", "bind", "claim"]
    assert action == DoStep(("claim", ""), 2, False)


def test_no_two_steps_have_taken_over_the_same() -> None:
    with pytest.raises(TypeError, match="two steps for claim"):
        replace(SAGA, steps=tuple(replace(it, formerly=("claim",) if it.name == "bind" else ()) for it in SAGA.steps))


def test_a_step_is_beside_one_that_comes_before_it() -> None:
    with pytest.raises(TypeError, match="does not come before it"):
        replace(SAGA, steps=tuple(replace(it, beside="tell" if it.name == "bind" else "") for it in SAGA.steps))


def test_the_pivot_runs_alone() -> None:
    with pytest.raises(TypeError, match="pivot"):
        replace(SAGA.step("start"), beside="bind")
