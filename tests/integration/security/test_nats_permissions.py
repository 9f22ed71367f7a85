"""A host's NATS identity on a real server: what it is for works; everything else is refused, without effect.

Alice is the intruder. Each refusal is asserted twice: the server reports a permission violation for just that
subject, and what the call would have done has not happened.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict

import pytest

from core.bus.subjects import consumer_name
from core.testing.servers import Cell
from tests.harness.barrier import dealt_with
from tests.integration.security.hosts_world import ALICE, BOB, PATIENCE_S, World, drain, next_request


@pytest.fixture
async def world(cell: Cell) -> World:
    return await World.create(cell)


# What a host is for.


async def test_a_host_pulls_and_acknowledges_its_own_commands(world: World) -> None:
    subject = await world.command(ALICE, "one", b"for alice")
    [message] = await world.alice.pull(world.cell.name, "compute")
    assert (message.subject, message.data) == (subject, b"for alice")
    await message.ack_sync(timeout=PATIENCE_S)
    assert await world.undelivered(ALICE) == (0, 0)
    assert world.alice.refusals == []


async def test_one_pull_brings_many_commands(world: World) -> None:
    for number in range(5):
        await world.command(ALICE, str(number))
    messages = await world.alice.pull(world.cell.name, "compute", batch=5)
    assert [message.metadata.sequence.stream for message in messages] == [1, 2, 3, 4, 5]


async def test_a_pull_waits_for_a_command_to_come(world: World) -> None:
    subscription = await world.alice.client.jetstream().pull_subscribe_bind(
        durable=consumer_name("alice", "net"), stream=world.names.commands_stream
    )
    with pytest.raises(TimeoutError):
        await subscription.fetch(1, timeout=0.3)
    await world.jetstream.publish(world.names.commands("alice", "net", "EnsurePort", "one"), b"later")
    [message] = await subscription.fetch(1, timeout=PATIENCE_S)
    assert message.data == b"later"


@pytest.mark.parametrize("verb", ["ack_sync", "nak", "in_progress", "term"])
async def test_a_host_may_answer_a_command_in_every_way(world: World, verb: str) -> None:
    await world.command(ALICE, "one")
    [message] = await world.alice.pull(world.cell.name, "compute")
    await getattr(message, verb)()
    await dealt_with(world.alice.client)
    assert world.alice.refusals == []
    expected = {"ack_sync": (0, 0), "nak": (0, 1), "in_progress": (0, 1), "term": (0, 0)}
    # The server takes what is not asked to be confirmed in its own time.
    async with asyncio.timeout(PATIENCE_S):
        while await world.undelivered(ALICE) != expected[verb]:  # noqa: ASYNC110 - a server is asked, nobody tells
            await asyncio.sleep(0.01)


async def test_a_host_reports_and_gets_the_streams_acknowledgement(world: World) -> None:
    subject = world.names.reports("alice", "compute", "DomainObserved", "one")
    stored = await world.alice.client.jetstream().publish(subject, b"report", headers={"traceparent": "00-1"})
    assert (stored.stream, stored.seq) == (world.names.reports_stream, 1)
    report = await world.jetstream.get_msg(world.names.reports_stream, 1)
    assert (report.subject, report.data) == (subject, b"report")
    assert report.headers == {"traceparent": "00-1"}


async def test_a_host_puts_its_own_poison_into_the_dead_letters(world: World) -> None:
    subject = world.names.dead_letters(consumer_name("alice", "compute"), world.names.commands_stream)
    assert (await world.alice.client.jetstream().publish(subject, b"poison")).seq == 1


async def test_heartbeats_and_progress_reach_the_control_plane(world: World) -> None:
    heard = await world.conductor.subscribe(f"{world.cell.name}.>")
    await world.alice.publish(world.names.heartbeats("alice", "compute"), b"beat")
    await world.alice.publish(world.names.progress("alice", "compute", "one"), b"half")
    assert [(await heard.next_msg(timeout=PATIENCE_S)).data for _ in range(2)] == [b"beat", b"half"]
    assert world.alice.refusals == []


# What it is not for: reading.


@pytest.mark.parametrize(
    "subject", ["_INBOX.>", "_INBOX_bob.>", "_INBOX_service_conductor.>", ">", "{cell}.commands.>", "$JS.>", "*.>"]
)
async def test_a_host_can_not_listen_to_others(world: World, subject: str) -> None:
    subject = subject.format(cell=world.cell.name)
    overheard = await world.alice.subscribe(subject)
    assert await world.alice.was_refused(subject)
    await world.command(BOB, "one", b"secret")
    [message] = await world.bob.pull(world.cell.name, "compute")
    await message.ack_sync(timeout=PATIENCE_S)
    await world.conductor.publish("_INBOX.someone", b"secret")
    assert await drain(overheard) == []


async def test_a_host_can_not_make_a_consumer(world: World) -> None:
    before = await world.consumers()
    stream = world.names.commands_stream
    config = {"durable_name": "spy", "name": "spy", "ack_policy": "explicit"}
    body = json.dumps({"stream_name": stream, "config": config, "action": ""}).encode()
    for subject in (
        f"$JS.API.CONSUMER.CREATE.{stream}",
        f"$JS.API.CONSUMER.CREATE.{stream}.spy",
        f"$JS.API.CONSUMER.CREATE.{stream}.spy.{world.cell.name}.commands.>",
        f"$JS.API.CONSUMER.DURABLE.CREATE.{stream}.spy",
    ):
        assert await world.alice.attempt(subject, body) == []
        assert await world.alice.was_refused(subject)
    assert await world.consumers() == before


async def test_a_host_can_not_change_its_own_consumer(world: World) -> None:
    stream, consumer = world.names.commands_stream, consumer_name("alice", "compute")
    config = {"durable_name": consumer, "filter_subject": world.names.all_commands, "ack_policy": "explicit"}
    subject = f"$JS.API.CONSUMER.DURABLE.CREATE.{stream}.{consumer}"
    assert await world.alice.attempt(subject, json.dumps({"stream_name": stream, "config": config}).encode()) == []
    assert await world.alice.was_refused(subject)
    info = await world.jetstream.consumer_info(stream, consumer)
    assert info.config.filter_subject == world.names.commands_for("alice", "compute")


@pytest.mark.parametrize(
    ("call", "body"),
    [
        ("STREAM.MSG.GET.{stream}", b'{"seq": 1}'),
        ("STREAM.MSG.GET.{stream}", b'{"last_by_subj": "{bobs}"}'),
        ("DIRECT.GET.{stream}", b'{"seq": 1}'),
        ("DIRECT.GET.{stream}.{bobs}", b""),
        ("CONSUMER.INFO.{stream}.bob--compute", b""),
        ("CONSUMER.INFO.{stream}.alice--compute", b""),
        ("CONSUMER.NAMES.{stream}", b""),
        ("CONSUMER.LIST.{stream}", b""),
        ("STREAM.INFO.{stream}", b""),
        ("STREAM.NAMES", b""),
        ("INFO", b""),
    ],
)
async def test_a_host_can_not_ask_jetstream(world: World, call: str, body: bytes) -> None:
    bobs = await world.command(BOB, "one", b"secret")
    subject = f"$JS.API.{call}".format(stream=world.names.commands_stream, bobs=bobs)
    assert await world.alice.attempt(subject, body.replace(b"{bobs}", bobs.encode())) == []
    assert await world.alice.was_refused(subject)


async def test_a_host_can_not_pull_from_anothers_consumer(world: World) -> None:
    await world.command(BOB, "one", b"secret")
    subject = f"$JS.API.CONSUMER.MSG.NEXT.{world.names.commands_stream}.bob--compute"
    assert await world.alice.attempt(subject, next_request()) == []
    assert await world.alice.was_refused(subject)
    [message] = await world.bob.pull(world.cell.name, "compute")
    assert (message.data, message.metadata.num_delivered) == (b"secret", 1)


# What it is not for: changing.


@pytest.mark.parametrize("verb", [b"", b"+ACK", b"-NAK", b"+TERM", b"+WPI", b"+NXT"])
async def test_a_host_can_not_answer_for_another(world: World, verb: bytes) -> None:
    await world.command(BOB, "one", b"secret")
    await world.command(BOB, "two", b"secret")
    [message] = await world.bob.pull(world.cell.name, "compute")
    assert await world.alice.attempt(message.reply, verb) == []
    assert await world.alice.was_refused(message.reply)
    assert await world.undelivered(BOB) == (1, 1)
    # Nobody has acknowledged it: when Bob asks for it, it comes again.
    await message.nak()
    again = await world.bob.pull(world.cell.name, "compute")
    again += await world.bob.pull(world.cell.name, "compute")
    deliveries = {found.metadata.sequence.stream: found.metadata.num_delivered for found in again}
    assert deliveries == {1: 2, 2: 1}


@pytest.mark.parametrize("form", ["own first", "own last", "hash", "domain"])
async def test_no_way_of_writing_an_acknowledgement_reaches_another(world: World, form: str) -> None:
    await world.command(BOB, "one", b"secret")
    await world.command(BOB, "two", b"secret")
    [message] = await world.bob.pull(world.cell.name, "compute")
    stream, tail = world.names.commands_stream, ".".join(message.reply.split(".")[4:])
    subject = {
        "own first": f"$JS.ACK.{stream}.alice--compute.{stream}.bob--compute.{tail}",
        "own last": f"$JS.ACK.{stream}.bob--compute.{stream}.alice--compute.1.2.3",
        "hash": f"$JS.ACK._.alice--compute.{stream}.bob--compute.{tail}",
        "domain": f"$JS.ACK.alice--compute._.{stream}.bob--compute.{tail}",
    }[form]
    for verb in (b"+NXT", b"+ACK"):
        assert await world.alice.attempt(subject, verb) == []
    assert await world.alice.was_refused(subject)
    assert await world.undelivered(BOB) == (1, 1)


@pytest.mark.parametrize(
    "subject",
    [
        "{cell}.reports.bob.compute.DomainObserved.one",
        "{cell}.commands.bob.compute.EnsureDomain.one",
        "{cell}.commands.alice.compute.EnsureDomain.one",
        "{cell}.events.instance.one.InstanceCreated",
        "{cell}.heartbeats.bob.compute",
        "{cell}.progress.bob.compute.one",
        "{cell}.service-heartbeats.placement.one",
        "{cell}.deadletter.bob--compute.{cell}-COMMANDS",
        "_INBOX.someone",
        "_INBOX_bob.one",
    ],
)
async def test_a_host_can_not_speak_for_another(world: World, subject: str) -> None:
    subject = subject.format(cell=world.cell.name)
    heard = await world.conductor.subscribe(subject)
    streams = (
        world.names.reports_stream,
        world.names.commands_stream,
        world.names.events_stream,
        world.names.dead_letters_stream,
    )
    await world.alice.publish(subject, b"forged", reply=f"{world.alice.inbox}.answer")
    assert await world.alice.was_refused(subject)
    assert await drain(heard) == []
    assert [(await world.state_of(stream)).last_seq for stream in streams] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    "call",
    [
        "STREAM.PURGE.{cell}-COMMANDS",
        "STREAM.DELETE.{cell}-EVENTS",
        "STREAM.UPDATE.{cell}-EVENTS",
        "STREAM.CREATE.{cell}-SPY",
        "STREAM.MSG.DELETE.{cell}-COMMANDS",
        "CONSUMER.DELETE.{cell}-COMMANDS.bob--compute",
        "CONSUMER.PAUSE.{cell}-COMMANDS.bob--compute",
        "CONSUMER.UNPIN.{cell}-COMMANDS.bob--compute",
    ],
)
async def test_a_host_can_not_administer(world: World, call: str) -> None:
    await world.command(BOB, "one")
    subject = f"$JS.API.{call}".format(cell=world.cell.name)
    streams, consumers = await world.jetstream.streams_info(), await world.consumers()
    assert await world.alice.attempt(subject, b'{"seq": 1}') == []
    assert await world.alice.was_refused(subject)
    after = await world.jetstream.streams_info()
    assert [asdict(stream.state) for stream in after] == [asdict(stream.state) for stream in streams]
    assert await world.consumers() == consumers
