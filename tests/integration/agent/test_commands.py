"""From a command to a report: order, generations, tombstones, failures, one trace."""

from __future__ import annotations

import asyncio

from nats.aio.msg import Msg
from opentelemetry import trace

from cirra.agent.v1.desired_pb2 import DOMAIN_STATE_ABSENT, DOMAIN_STATE_RUNNING, Answer, ConsoleTail, Question
from core import telemetry
from core.agent.handler import AgentFailure
from core.agent.reporter import CORRELATION_HEADER
from core.bus import publish_command
from core.bus.pull import DEAD_REASON, DEAD_SUBJECT
from core.settings import ServiceSettings
from tests.integration.agent.world import PATIENCE_S, Shelf, World, domain, until


async def test_a_command_is_done_reported_and_acknowledged(world: World) -> None:
    shelf = Shelf()
    await world.start_agent(shelf)
    await world.command(domain("a", 1, create=True))
    report = await world.until_reported("a", 1)
    assert report.domain.state == DOMAIN_STATE_RUNNING
    assert (report.host, report.agent, report.kind, report.boot_id) == ("h1", "compute", "domain", "boot-1")
    assert report.sequence > 0
    assert not report.HasField("failure")
    assert world.received_on("a")[0].subject == f"{world.cell.name}.reports.h1.compute.DomainObserved.a"
    await world.until_acknowledged()
    assert shelf.calls == [("ensure", "a", 1)]


async def test_a_failure_is_an_answer(world: World) -> None:
    shelf = Shelf()
    shelf.errors.append(AgentFailure("no room", reason="NO_SPACE", remedy="free some", retryable=True, reschedule=True))
    await world.start_agent(shelf)
    await world.command(domain("a", 1, create=True))
    failure = (await world.until_reported("a", 1)).failure
    assert (failure.reason, failure.message, failure.remedy) == ("NO_SPACE", "no room", "free some")
    assert failure.retryable
    assert failure.reschedule
    await world.until_acknowledged()
    assert len(shelf.calls) == 1
    assert world.received_on("a")[0].subject.split(".")[-2] == "DomainObserved"


async def test_an_infrastructure_error_is_tried_again_and_not_reported(world: World) -> None:
    shelf = Shelf()
    shelf.errors += [ConnectionError("libvirt is away"), ConnectionError("still away")]
    await world.start_agent(shelf)
    await world.command(domain("a", 1, create=True))
    report = await world.until_reported("a", 1)
    assert not report.HasField("failure")
    assert shelf.calls_for("a") == [("ensure", 1)] * 3
    assert len(world.reports_on("a")) == 1


async def test_an_older_generation_is_ignored_and_the_last_report_comes_again(world: World) -> None:
    shelf = Shelf()
    await world.start_agent(shelf)
    await world.command(domain("a", 5, create=True))
    first = await world.until_reported("a", 5)
    await world.command(domain("a", 4, absent=True))
    again = await world.until_reported("a", 5, count=2)
    assert again == first, "the very same claim, so that it is news only if the first was lost"
    assert shelf.calls_for("a") == [("ensure", 5)]
    assert "a" in shelf.things


async def test_a_tombstone_refuses_the_do_that_comes_after_its_undo(world: World) -> None:
    shelf = Shelf()
    agent = await world.start_agent(shelf)
    await world.command(domain("a", 2, absent=True))
    assert (await world.until_reported("a", 2)).domain.state == DOMAIN_STATE_ABSENT
    await agent.stop()
    await world.start_agent(shelf)
    await world.command(domain("a", 1, create=True))
    await world.until_acknowledged()
    assert shelf.things == {}
    assert shelf.calls_for("a") == [("remove", 2)]


async def test_one_object_has_one_at_a_time_others_go_on(world: World) -> None:
    shelf = Shelf()
    shelf.open.clear()
    await world.start_agent(shelf)
    for generation, verb in ((1, "EnsureDomain"), (2, "RestartDomain"), (3, "StopDomain")):
        wish = domain("a", generation, create=True)
        await publish_command(world.bus, "h1", "compute", verb, "a", wish)
    await world.command(domain("b", 1, create=True))
    await until(lambda: shelf.at_once == 2, "a and b are both being made")
    await asyncio.sleep(0.1)
    assert shelf.most_at_once == 2
    shelf.open.set()
    await world.until_reported("a", 3)
    assert shelf.calls_for("a") == [("ensure", 1), ("ensure", 2), ("ensure", 3)]
    assert shelf.most_at_once == 2


async def test_a_command_said_again_while_it_is_done_keeps_no_other_waiting(world: World) -> None:
    shelf = Shelf()
    shelf.open.clear()
    await world.start_agent(shelf, concurrency=2)
    await world.command(domain("a", 1, create=True))
    await until(lambda: shelf.at_once == 1, "a is being made")
    for _ in range(3):
        await world.command(domain("a", 1, create=True))
        await world.until_acknowledged(but=1)
    await world.command(domain("b", 1, create=True))
    await until(lambda: shelf.at_once == 2, "b is being made too")
    shelf.open.set()
    await world.until_reported("a", 1)
    await world.until_reported("b", 1)
    assert shelf.calls_for("a") == [("ensure", 1)]
    await world.command(domain("a", 1, create=True))
    await world.until_reported("a", 1, count=2)


async def test_a_command_for_somebody_else_is_poison(world: World) -> None:
    shelf = Shelf()
    await world.start_agent(shelf)
    foreign = domain("a", 1, create=True)
    foreign.host = "h2"
    await publish_command(world.bus, "h1", "compute", "EnsureDomain", "a", foreign)
    unknown = domain("b", 1, create=True)
    unknown.kind = "teapot"
    await publish_command(world.bus, "h1", "compute", "EnsureTeapot", "b", unknown)
    letters = await world.bus.js.subscribe(world.bus.subjects.all_dead_letters)
    headers = [(await letters.next_msg(PATIENCE_S)).headers or {} for _ in range(2)]
    reasons = {each[DEAD_SUBJECT].rpartition(".")[2]: each[DEAD_REASON] for each in headers}
    assert "compute@h2" in reasons["a"]
    assert "teapot" in reasons["b"]
    await world.until_acknowledged()
    assert shelf.calls == []


async def test_one_trace_and_correlation_from_the_command_to_the_report(world: World) -> None:
    telemetry.configure("test", ServiceSettings())
    seen: list[int] = []

    class Traced(Shelf):
        async def _begin(self, verb: str, desired: object) -> None:
            seen.append(trace.get_current_span().get_span_context().trace_id)

    await world.start_agent(Traced())
    with telemetry.tracer().start_as_current_span("saga step") as span:
        await world.command(domain("a", 1, create=True), {CORRELATION_HEADER: "corr-7"})
    await world.until_reported("a", 1)
    trace_id = span.get_span_context().trace_id
    assert seen == [trace_id]
    received = world.received_on("a")[0]
    assert received.traceparent.split("-")[1] == f"{trace_id:032x}"
    assert received.headers[CORRELATION_HEADER] == "corr-7"


async def test_a_question_is_answered_to_who_listens_and_changes_nothing(world: World) -> None:
    async def reader(question: Question) -> Answer:
        if question.console.instance_id == "lost":
            raise AgentFailure("not mounted", reason="STATE_FOLDER_MISSING", remedy="mount it")
        return Answer(console=f"{question.console.instance_id} wrote".encode())

    shelf = Shelf()
    await world.start_agent(shelf, readers={"ReadConsole": reader})
    heard: dict[str, Answer] = {}

    async def hear(message: Msg) -> None:
        heard[message.subject.rpartition(".")[2]] = Answer.FromString(message.data)

    await world.bus.subscribe(world.bus.subjects.all_progress, hear)
    for name in ("a", "lost"):
        asked = Question(question_id=f"q-{name}", host="h1", agent="compute", console=ConsoleTail(instance_id=name))
        await publish_command(world.bus, "h1", "compute", "ReadConsole", asked.question_id, asked)
    await until(lambda: len(heard) == 2, "both are answered")
    assert heard["q-a"] == Answer(console=b"a wrote")
    assert (heard["q-lost"].failure.reason, heard["q-lost"].failure.remedy) == ("STATE_FOLDER_MISSING", "mount it")
    await world.until_acknowledged()
    assert shelf.calls == []
