"""The pull loop: at least once, whatever happens to the server, the consumer and the handler."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
from google.protobuf.wrappers_pb2 import StringValue
from nats.js.api import AckPolicy, ConsumerConfig
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from core.bus import (
    Bus,
    Poison,
    PullLoop,
    Received,
    connect,
    ensure_command_consumer,
    ensure_report_consumer,
    ensure_streams,
    publish_command,
    publish_report,
)
from core.bus.publish import publish_bytes
from core.bus.pull import DEAD_REASON, DEAD_SUBJECT
from core.embedded.nats import EmbeddedNats
from core.natsauth.permissions import inbox_prefix
from core.pki.identity import Identity
from core.testing.servers import Cell

from .handling import Collector, eventually, running

CONSUMER = "conductor"


async def report(bus: Bus, text: str, *, object_id: str = "o", fact: str = "DomainObserved") -> None:
    subject = bus.subjects.reports("h1", "compute", fact, object_id)
    await publish_bytes(bus, subject, text.encode(), {}, message_id=str(uuid4()))


def loop_on_reports(bus: Bus, handler: Collector, **options: object) -> PullLoop:
    return PullLoop(bus, bus.subjects.reports_stream, CONSUMER, handler, heartbeat_s=0.5, **options)  # type: ignore[arg-type]


async def test_a_handled_message_is_gone_from_the_work_queue(bus: Bus) -> None:
    await ensure_report_consumer(bus, CONSUMER)
    collector = Collector()
    async with running(loop_on_reports(bus, collector)):
        for number in range(50):
            await report(bus, f"m{number}")
        await collector.until_all(*(f"m{number}" for number in range(50)))
        await eventually(lambda: holds(bus, bus.subjects.reports_stream, 0))
    assert len(collector.payloads) == 50
    first = collector.received[0]
    assert bus.subjects.parse_reports(first.subject).fact == "DomainObserved"
    assert (first.sequence, first.delivered) == (1, 1)


async def test_the_server_restarts(own_nats: EmbeddedNats, own_bus: Bus) -> None:
    await ensure_report_consumer(own_bus, CONSUMER)
    collector = Collector()
    async with running(loop_on_reports(own_bus, collector)):
        await report(own_bus, "before")
        await collector.until_all("before")
        await own_nats.restart()
        await report(own_bus, "after")
        await collector.until_all("after", timeout_s=30)
        await own_nats.kill()
        await own_nats.start()
        await report(own_bus, "after kill -9")
        await collector.until_all("after kill -9", timeout_s=30)


async def test_the_server_freezes_for_longer_than_the_heartbeats(own_nats: EmbeddedNats, own_bus: Bus) -> None:
    await ensure_report_consumer(own_bus, CONSUMER)
    collector = Collector()
    async with running(loop_on_reports(own_bus, collector)):
        await report(own_bus, "before")
        await collector.until_all("before")
        own_nats.pause()
        await asyncio.sleep(3)  # the length of the freeze is what is tested
        own_nats.resume()
        await report(own_bus, "after")
        await collector.until_all("after", timeout_s=60)


async def test_the_consumer_is_deleted_and_the_loop_makes_it_again(bus: Bus) -> None:
    async def ensure() -> None:
        await ensure_report_consumer(bus, CONSUMER)

    collector = Collector()
    async with running(loop_on_reports(bus, collector, ensure=ensure)):
        await report(bus, "one")
        await collector.until_all("one")
        await bus.js.delete_consumer(bus.subjects.reports_stream, CONSUMER)
        await report(bus, "two")
        await collector.until_all("two", timeout_s=30)


async def test_the_stream_is_deleted_and_somebody_else_makes_it_again(bus: Bus) -> None:
    await ensure_report_consumer(bus, CONSUMER)
    collector = Collector()
    async with running(loop_on_reports(bus, collector)):
        await report(bus, "one")
        await collector.until_all("one")
        await bus.js.delete_stream(bus.subjects.reports_stream)
        await ensure_streams(bus)
        await ensure_report_consumer(bus, CONSUMER)
        await report(bus, "two")
        await collector.until_all("two", timeout_s=30)


async def test_a_failing_handler_gets_the_message_again(bus: Bus) -> None:
    await ensure_report_consumer(bus, CONSUMER)
    collector = Collector()

    async def fails_twice(received: Received) -> None:
        await collector(received)
        if received.delivered < 3:
            raise ConnectionError("libvirtd is away")

    loop = PullLoop(bus, bus.subjects.reports_stream, CONSUMER, fails_twice)
    async with running(loop):
        await report(bus, "x")
        await collector.until(lambda: len(collector.received) == 3)
    assert [received.delivered for received in collector.received] == [1, 2, 3]


async def test_poison_goes_to_the_dead_letter_and_does_not_come_back(bus: Bus) -> None:
    await ensure_report_consumer(bus, CONSUMER)
    collector = Collector()

    async def refuses_poison(received: Received) -> None:
        await collector(received)
        if received.data == b"poison":
            raise Poison("no such\r\nthing: ü")

    async with running(PullLoop(bus, bus.subjects.reports_stream, CONSUMER, refuses_poison)):
        await report(bus, "poison", object_id="bad")
        await report(bus, "fine")
        await collector.until_all("poison", "fine")
        await eventually(lambda: holds(bus, bus.subjects.reports_stream, 0))
    assert collector.payloads.count("poison") == 1
    subject = bus.subjects.dead_letters(CONSUMER, bus.subjects.reports_stream)
    dead = await bus.js.get_last_msg(bus.subjects.dead_letters_stream, subject)
    assert dead.data == b"poison"
    assert dead.headers is not None
    assert dead.headers[DEAD_SUBJECT] == bus.subjects.reports("h1", "compute", "DomainObserved", "bad")
    assert dead.headers[DEAD_REASON] == "no such thing: \\xfc", "a header holds one line of ASCII"


async def test_what_can_not_be_decoded_is_poison(bus: Bus) -> None:
    received = Received(subject="s", data=b"\xff\xff\xff", sequence=1, delivered=1)
    with pytest.raises(Poison):
        received.decode(StringValue)
    good = Received(subject="s", data=StringValue(value="x").SerializeToString(), sequence=1, delivered=1)
    assert good.decode(StringValue).value == "x"


async def test_one_key_is_handled_serially_and_in_order_others_meanwhile(bus: Bus) -> None:
    await ensure_report_consumer(bus, CONSUMER)
    collector = Collector()
    busy: dict[str, int] = {}
    most_at_once = 0
    gate = asyncio.Event()

    async def handler(received: Received) -> None:
        nonlocal most_at_once
        key = key_of(received)
        busy[key] = busy.get(key, 0) + 1
        most_at_once = max(most_at_once, sum(busy.values()))
        assert busy[key] == 1, "two of one key at once"
        if most_at_once == 2:
            gate.set()
        async with asyncio.timeout(60):
            await gate.wait()  # the first of one key waits until the other key runs too
        busy[key] -= 1
        await collector(received)

    def key_of(received: Received) -> str:
        return bus.subjects.parse_reports(received.subject).object_id

    for number in range(20):
        await report(bus, f"a{number}", object_id="a")
        await report(bus, f"b{number}", object_id="b")
    async with running(PullLoop(bus, bus.subjects.reports_stream, CONSUMER, handler, ordered_by=key_of)):
        await collector.until(lambda: len(collector.payloads) == 40)
    for key in "ab":
        mine = [payload for payload in collector.payloads if payload.startswith(key)]
        assert mine == [f"{key}{number}" for number in range(20)]
    assert most_at_once == 2


async def test_no_more_than_asked_for_are_handled_at_once(bus: Bus) -> None:
    await ensure_report_consumer(bus, CONSUMER)
    collector = Collector()
    at_once = most = 0

    all_slots = asyncio.Event()

    async def handler(received: Received) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        if at_once == 5:
            all_slots.set()
        await all_slots.wait()
        await asyncio.sleep(0.005)
        at_once -= 1
        await collector(received)

    for number in range(60):
        await report(bus, f"m{number}")
    async with running(PullLoop(bus, bus.subjects.reports_stream, CONSUMER, handler, concurrency=5)):
        await collector.until(lambda: len(collector.payloads) == 60)
    assert most == 5


async def test_a_slow_handler_keeps_its_message(bus: Bus) -> None:
    ack_wait_s = 6.0  # of which a busy machine may take most for a rest
    await ensure_report_consumer(bus, CONSUMER, ack_wait_s=ack_wait_s)
    collector = Collector()

    async def slow(received: Received) -> None:
        await asyncio.sleep(1.1 * ack_wait_s)
        await collector(received)

    async with running(
        PullLoop(bus, bus.subjects.reports_stream, CONSUMER, slow, ack_wait_s=ack_wait_s / 10, concurrency=4)
    ):
        await report(bus, "x")
        await collector.until_all("x")
        info = await bus.js.consumer_info(bus.subjects.reports_stream, CONSUMER)
    assert [received.delivered for received in collector.received] == [1]
    assert info.num_redelivered == 0


async def test_a_loop_that_ends_gives_its_messages_back_at_once(bus: Bus) -> None:
    await ensure_report_consumer(bus, CONSUMER, ack_wait_s=600.0)
    started = asyncio.Event()

    async def never_ends(received: Received) -> None:
        started.set()
        await asyncio.Event().wait()

    await report(bus, "x")
    async with running(PullLoop(bus, bus.subjects.reports_stream, CONSUMER, never_ends)):
        async with asyncio.timeout(60):
            await started.wait()
    collector = Collector()
    async with running(PullLoop(bus, bus.subjects.reports_stream, CONSUMER, collector)):
        await collector.until_all("x", timeout_s=60)  # the acknowledgement would be due only after ten minutes
    assert collector.received[0].delivered == 2


async def test_a_host_pulls_its_commands_and_reports(cell: Cell, bus: Bus) -> None:
    """With a host's own rights, from the hosts' account."""
    identity = Identity.host("h1")
    await ensure_command_consumer(bus, "h1", ["compute", "net"])
    await ensure_command_consumer(bus, "h2", ["compute"])
    await ensure_report_consumer(bus, CONSUMER, ["DomainObserved"])
    agent = await connect(
        cell.nats_url,
        cell=cell.name,
        name="h1",
        credentials=cell.credentials_of(identity),
        inbox_prefix=inbox_prefix(identity),
    )
    commands, reports = Collector(), Collector()

    async def observe(received: Received) -> None:
        value = received.decode(StringValue).value
        if value == "poison":
            raise Poison("of no use")
        await publish_report(agent, "h1", "compute", "DomainObserved", "o1", StringValue(value=f"seen {value}"))
        await commands(received)

    async def keep(received: Received) -> None:
        reports.payloads.append(received.decode(StringValue).value)
        reports.changed()

    try:
        async with (
            running(PullLoop(agent, agent.subjects.commands_stream, "h1--compute", observe)),
            running(PullLoop(bus, bus.subjects.reports_stream, CONSUMER, keep)),
        ):
            await publish_command(bus, "h2", "compute", "EnsureDomain", "o1", StringValue(value="not for h1"))
            await publish_command(bus, "h1", "compute", "EnsureDomain", "o1", StringValue(value="one"))
            await publish_command(bus, "h1", "compute", "EnsureDomain", "o2", StringValue(value="two"))
            await publish_command(bus, "h1", "compute", "EnsureDomain", "o3", StringValue(value="poison"))
            await reports.until_all("seen one", "seen two")
            await eventually(lambda: holds(bus, bus.subjects.dead_letters_stream, 1))
            await eventually(lambda: nothing_pending(bus, "h1--compute"))
    finally:
        await agent.close()
    assert len(commands.received) == 2


async def holds(bus: Bus, stream: str, messages: int) -> bool:
    return (await bus.js.stream_info(stream)).state.messages == messages


async def nothing_pending(bus: Bus, consumer: str) -> bool:
    info = await bus.js.consumer_info(bus.subjects.commands_stream, consumer)
    return (info.num_pending, info.num_ack_pending) == (0, 0)


async def test_the_trace_goes_on_in_the_handler(bus: Bus) -> None:
    tracer = TracerProvider().get_tracer("test")
    seen: list[tuple[int, str]] = []
    await bus.js.add_consumer(
        bus.subjects.commands_stream, ConsumerConfig(durable_name="any", ack_policy=AckPolicy.EXPLICIT)
    )
    collector = Collector()

    async def handler(received: Received) -> None:
        seen.append((trace.get_current_span().get_span_context().trace_id, received.traceparent))
        await collector(received)

    async with running(PullLoop(bus, bus.subjects.commands_stream, "any", handler)):
        with tracer.start_as_current_span("saga step") as span:
            await publish_command(bus, "h1", "compute", "EnsureDomain", "o1", StringValue(value="x"))
        await collector.until(lambda: len(seen) == 1)
    trace_id = span.get_span_context().trace_id
    assert seen[0][0] == trace_id
    assert seen[0][1].split("-")[1] == f"{trace_id:032x}"
