"""Which appends a run makes: what a step begins with is in the one that starts it, what it ends with in the next."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from uuid import UUID

import pytest
from google.protobuf.struct_pb2 import Value

from cirra.conductor.v1.sagas_pb2 import InstanceCreateParams
from core.aggregate import Aggregate, applies
from core.errors import CirraError, FailedPrecondition
from core.eventlog.errors import LogUnavailable
from core.eventlog.types import Append, Appended
from core.ids import uuid7
from core.repository import Repository
from core.saga import Interventions, Saga, SagaEngine, SagaRun, Step, StepContext, Together, taken_at_start
from core.saga.state import SagaStatus


class Lamp(Aggregate, kind="lamp"):
    """Remembers every colour that it had."""

    colours: tuple[str, ...] = ()

    @applies(Value)
    def _shone(self, event: Value) -> None:
        self.colours += (event.string_value,)

    def shine(self, colour: str) -> None:
        if not self.colours or self.colours[-1] != colour:
            self.record(Value(string_value=colour))


@dataclass
class Room:
    """`trouble`: what the next openings raise."""

    repository: Repository
    lamp_id: UUID = field(default_factory=uuid7)
    trouble: list[Exception] = field(default_factory=list)
    seen: list[tuple[str, ...]] = field(default_factory=list)


Context = StepContext[InstanceCreateParams]


async def wish(ctx: Context) -> tuple[Lamp]:
    room: Room = ctx.services
    if room.trouble:
        raise room.trouble.pop(0)
    lamp = ctx.unsaved.get(room.lamp_id) or await room.repository.load(Lamp, room.lamp_id)
    assert isinstance(lamp, Lamp)
    lamp.shine("red")
    return (lamp,)


async def redden(ctx: Context) -> None:
    room: Room = ctx.services
    room.seen.append((await room.repository.load(Lamp, room.lamp_id)).colours)
    (lamp,) = await wish(ctx)
    await room.repository.save(lamp)


async def blue(ctx: Context) -> Together:
    room: Room = ctx.services
    lamp = await room.repository.load(Lamp, room.lamp_id)
    lamp.shine("blue")
    return Together((lamp,))


REDDEN = Step(name="redden", opening=wish, do=redden, no_undo="a test")
BLUE = Step(name="blue", do=blue, no_undo="a test", only_decides=True)


class Runs:
    """Runs of a saga of these steps; `appends` has the names of the events of each append since."""

    def __init__(self, repository: Repository, *steps: Step[InstanceCreateParams]) -> None:
        self.saga = Saga(name="shine", params=InstanceCreateParams, steps=steps)
        self.repository = repository
        self.room = Room(repository)
        self.engine = SagaEngine(repository, [self.saga], runner="me", services=self.room)

    async def run(self) -> SagaRun:
        lamp, saga_id = Lamp.new(self.room.lamp_id), uuid7()
        lamp.shine("white")
        params = InstanceCreateParams(instance_id="i")
        run = self.engine.prepare(self.saga, params, target="t", project_id="p", saga_id=saga_id)
        await self.repository.save(lamp, run)
        self.engine.launch(saga_id)
        async with asyncio.timeout(60):
            await self.engine.idle()
        return await self.repository.load(SagaRun, saga_id)


@pytest.fixture
def appends(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    made: list[list[str]] = []
    through = repository.log.append

    async def append(asked: Append) -> Appended:
        appended = await through(asked)
        made.append([event.type.rpartition(".")[2] for event in asked.events])
        return appended

    monkeypatch.setattr(repository.log, "append", append)
    return made


async def test_what_a_step_begins_with_is_saved_with_its_start(
    repository: Repository, appends: list[list[str]]
) -> None:
    runs = Runs(repository, Step(name="accept", do=nothing, no_undo="a test"), REDDEN)
    assert (await runs.run()).status is SagaStatus.COMPLETED
    assert appends == [
        ["Value", "SagaStarted", "StepStarted"],
        ["StepSucceeded", "StepStarted", "Value"],
        ["StepSucceeded", "SagaCompleted"],
    ]
    assert runs.room.seen == [("white", "red")]


async def test_it_goes_on_from_what_the_step_before_has_not_saved_yet(
    repository: Repository, appends: list[list[str]]
) -> None:
    runs = Runs(repository, Step(name="blue", do=blue, no_undo="a test"), REDDEN)
    assert (await runs.run()).status is SagaStatus.COMPLETED
    assert appends[1:] == [
        ["Value", "Value", "StepSucceeded", "StepStarted"],
        ["StepSucceeded", "SagaCompleted"],
    ]
    assert runs.room.seen == [("white", "blue", "red")]


@pytest.mark.parametrize("trouble", [FailedPrecondition("not now"), RuntimeError("broken")])
async def test_what_can_not_be_saved_with_the_start_is_left_to_the_step(
    repository: Repository, appends: list[list[str]], trouble: Exception
) -> None:
    runs = Runs(repository, Step(name="accept", do=nothing, no_undo="a test"), REDDEN)
    runs.room.trouble = [trouble]
    assert (await runs.run()).status is SagaStatus.COMPLETED
    assert appends[1:] == [
        ["StepSucceeded", "StepStarted"],
        ["Value"],
        ["StepSucceeded", "SagaCompleted"],
    ]


async def test_a_step_is_given_once_what_it_has_begun_with(repository: Repository) -> None:
    given: list[list[tuple[str, ...]]] = []

    async def look(ctx: Context) -> None:
        lamps = [ctx.opened.pop() for _ in ctx.opened]
        given.append([lamp.colours for lamp in lamps if isinstance(lamp, Lamp) and not lamp.pending_events])
        if len(given) == 1:
            raise LogUnavailable("try again")

    blue_first = Step(name="blue", do=blue, no_undo="a test")
    runs = Runs(repository, blue_first, Step(name="look", opening=wish, do=look, no_undo="a test"))
    assert (await runs.run()).status is SagaStatus.COMPLETED
    assert given == [[("white", "blue", "red")], []]


async def test_an_opening_on_what_others_have_changed_is_made_anew(repository: Repository) -> None:
    runs = Runs(repository, Step(name="accept", do=nothing, no_undo="a test"), REDDEN)
    load = repository.load
    overtaken = False

    async def load_and_be_overtaken(aggregate_class: type[Aggregate], aggregate_id: UUID) -> Aggregate:
        nonlocal overtaken
        found = await load(aggregate_class, aggregate_id)
        if aggregate_class is Lamp and not overtaken:
            overtaken = True
            other = await load(Lamp, aggregate_id)
            other.shine("green")
            await repository.save(other)
        return found

    repository.load = load_and_be_overtaken  # type: ignore[method-assign, assignment]
    assert (await runs.run()).status is SagaStatus.COMPLETED
    assert (await load(Lamp, runs.room.lamp_id)).colours == ("white", "green", "red")


async def test_a_step_that_only_decides_is_one_append_with_its_neighbours(
    repository: Repository, appends: list[list[str]]
) -> None:
    runs = Runs(repository, Step(name="accept", do=nothing, no_undo="a test"), BLUE)
    assert (await runs.run()).status is SagaStatus.COMPLETED
    assert appends[1:] == [["Value", "StepSucceeded", "StepSucceeded", "SagaCompleted"]]


async def test_a_step_that_only_decides_reads_what_the_step_before_has_changed(
    repository: Repository, appends: list[list[str]]
) -> None:
    def shines(colour: str) -> Step[InstanceCreateParams]:
        async def do(ctx: Context) -> Together:
            lamp_id = ctx.services.lamp_id
            lamp = ctx.unsaved.get(lamp_id) or await ctx.services.repository.load(Lamp, lamp_id)
            assert isinstance(lamp, Lamp)
            lamp.shine(colour)
            return Together((lamp,))

        return Step(name=colour, do=do, no_undo="a test", only_decides=True)

    runs = Runs(repository, Step(name="accept", do=nothing, no_undo="a test"), shines("blue"), shines("green"))
    assert (await runs.run()).status is SagaStatus.COMPLETED
    assert (await repository.load(Lamp, runs.room.lamp_id)).colours == ("white", "blue", "green")
    assert len(appends) == 2


async def test_what_a_step_that_only_decides_has_failed_at_is_not_saved_with_what_the_one_before_has_changed(
    repository: Repository,
) -> None:
    async def fail(ctx: Context) -> Together:
        lamp = ctx.unsaved[ctx.services.lamp_id]
        assert isinstance(lamp, Lamp)
        lamp.shine("green")
        raise CirraError("no", reason="BROKEN")

    step = Step(name="fail", do=fail, no_undo="a test", only_decides=True)
    runs = Runs(repository, Step(name="accept", do=nothing, no_undo="a test"), BLUE, step)
    assert (await runs.run()).status is SagaStatus.UNWOUND
    assert (await repository.load(Lamp, runs.room.lamp_id)).colours == ("white", "blue")


async def test_who_gave_something_to_be_saved_is_told_that_it_was(repository: Repository) -> None:
    told: list[tuple[bool, tuple[str, ...]]] = []

    async def shine(ctx: Context) -> Together:
        lamp = await ctx.services.repository.load(Lamp, ctx.services.lamp_id)
        lamp.shine("blue")
        if not told:  # overtaken: this append will be refused
            other = await ctx.services.repository.load(Lamp, ctx.services.lamp_id)
            other.shine("green")
            await ctx.services.repository.save(other)
        return Together((lamp,), settled=lambda saved: told.append((saved, lamp.colours)))

    runs = Runs(repository, Step(name="shine", do=shine, no_undo="a test"))
    assert (await runs.run()).status is SagaStatus.COMPLETED
    assert told == [(False, ("white", "blue")), (True, ("white", "green", "blue"))]


async def test_a_step_that_only_decides_and_fails_has_started(repository: Repository, appends: list[list[str]]) -> None:
    async def refuse(ctx: Context) -> None:
        raise CirraError("no", reason="BROKEN")

    step = Step(name="refuse", do=refuse, no_undo="a test", only_decides=True)
    run = await Runs(repository, Step(name="accept", do=nothing, no_undo="a test"), step).run()
    assert run.status is SagaStatus.UNWOUND
    assert list(run.steps) == [("accept", ""), ("refuse", "")]
    assert appends[1:] == [["StepSucceeded", "StepStarted", "StepFailed", "SagaUnwound"]]


async def test_what_the_first_append_has_taken_has_succeeded_and_has_not_started(
    repository: Repository, appends: list[list[str]]
) -> None:
    accept = Step(name="accept", do=taken_at_start, no_undo="a test")
    run = await Runs(repository, accept, REDDEN).run()
    assert run.status is SagaStatus.COMPLETED
    assert list(run.steps) == [("accept", ""), ("redden", "")]
    assert appends[0] == ["Value", "SagaStarted", "StepSucceeded", "StepStarted"]


async def test_a_step_that_only_decides_and_stood_still_goes_on_once_retried(repository: Repository) -> None:
    asked = 0

    async def decide(ctx: Context) -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise CirraError("no", reason="BROKEN")

    runs = Runs(
        repository,
        Step(name="pivot", do=nothing, no_undo="a test", pivot=True),
        Step(name="decide", do=decide, no_undo="a test", only_decides=True),
    )
    run = await runs.run()
    assert run.status is SagaStatus.STUCK
    await Interventions(repository, runs.engine).retry(run.id, "mended")
    async with asyncio.timeout(60):
        await runs.engine.idle()
    assert (await repository.load(SagaRun, run.id)).status is SagaStatus.COMPLETED


async def nothing(ctx: Context) -> None:
    """Has no effect."""
