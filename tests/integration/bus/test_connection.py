"""The connection: comes back by itself, carries its subscriptions over, buffers nothing meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from google.protobuf.wrappers_pb2 import StringValue
from nats.aio.msg import Msg

from cirra.agent.v1.desired_pb2 import Heartbeat
from core.bus import Bus, BusUnavailable, connect, publish_command, publish_report
from core.embedded.nats import EmbeddedNats
from core.liveness import HeartbeatPublisher
from tests.harness.barrier import dealt_with

from .handling import eventually


class Inbox:
    def __init__(self) -> None:
        self.messages: asyncio.Queue[Msg] = asyncio.Queue()

    async def __call__(self, message: Msg) -> None:
        await self.messages.put(message)

    async def next(self) -> Msg:
        async with asyncio.timeout(60):
            return await self.messages.get()


async def test_it_waits_for_a_server_that_starts_later(tmp_path: Path) -> None:
    server = EmbeddedNats(tmp_path / "late")
    await server.start()
    await server.stop()
    connecting = asyncio.create_task(connect(server.url, cell="c", name="early"))
    await asyncio.sleep(0.5)
    assert not connecting.done()
    async with server:
        async with asyncio.timeout(60):
            bus = await connecting
        assert bus.connected
        await bus.close()


async def test_it_reconnects_and_says_so(own_nats: EmbeddedNats, own_bus: Bus) -> None:
    inbox, connections = Inbox(), Inbox()
    await own_bus.subscribe("greetings", inbox)
    stop_listening = own_bus.on_connected(lambda: connections.messages.put_nowait(Msg(own_bus.nc)))
    await own_nats.restart()
    await connections.next()
    async with asyncio.timeout(60):
        await own_bus.wait_connected()
    assert await own_bus.publish("greetings", b"hello again", {"a": "b"})
    message = await inbox.next()
    assert (message.data, message.headers) == (b"hello again", {"a": "b"})
    stop_listening()
    await own_nats.restart()
    async with asyncio.timeout(60):
        await own_bus.wait_connected()
    assert connections.messages.empty()


async def test_nothing_is_buffered_while_the_server_is_away(own_nats: EmbeddedNats, own_bus: Bus) -> None:
    inbox = Inbox()
    await own_bus.subscribe("news", inbox)
    await own_nats.stop()
    await eventually(lambda: asyncio.sleep(0, result=not own_bus.connected))
    assert not await own_bus.publish("news", b"lost")
    await own_nats.start()
    async with asyncio.timeout(60):
        await own_bus.wait_connected()
    assert await own_bus.publish("news", b"heard")
    assert (await inbox.next()).data == b"heard"


async def test_a_connection_that_the_server_ends_for_good_is_replaced(own_nats: EmbeddedNats, own_bus: Bus) -> None:
    """nats-py does not reconnect after an error of the protocol, such as an expired token."""
    inbox, connected = Inbox(), asyncio.Event()
    subscription = await own_bus.subscribe("news", inbox)
    before = own_bus.nc
    own_bus.on_connected(connected.set)
    await before._process_err("'User Authentication Expired'")
    async with asyncio.timeout(60):
        await connected.wait()
    assert own_bus.nc is not before
    assert await own_bus.publish("news", b"still here")
    assert (await inbox.next()).data == b"still here"
    await subscription.unsubscribe()
    assert await own_bus.publish("news", b"not for us")
    await dealt_with(own_bus.nc)
    assert inbox.messages.empty()
    assert await own_bus.js.stream_info(own_bus.subjects.events_stream)


async def test_a_failing_handler_does_not_end_its_subscription(bus: Bus) -> None:
    inbox = Inbox()

    async def fragile(message: Msg) -> None:
        if message.data == b"bad":
            raise RuntimeError("broken")
        await inbox(message)

    subject = bus.subjects.heartbeats("h1", "net")
    await bus.subscribe(subject, fragile)
    await bus.publish(subject, b"bad")
    await bus.publish(subject, b"good")
    assert (await inbox.next()).data == b"good"


async def test_publishing_waits_for_the_server(own_nats: EmbeddedNats, own_bus: Bus) -> None:
    await own_nats.stop()
    publishing = asyncio.create_task(publish_report(own_bus, "h1", "net", "PortObserved", "p1", StringValue(value="x")))
    await asyncio.sleep(0.3)
    assert not publishing.done()
    await own_nats.start()
    async with asyncio.timeout(60):
        assert await publishing == 1
    assert (await own_bus.js.stream_info(own_bus.subjects.reports_stream)).state.messages == 1


async def test_publishing_gives_up_in_time(own_nats: EmbeddedNats, own_bus: Bus) -> None:
    await own_nats.stop()
    with pytest.raises(BusUnavailable) as caught:
        await publish_report(own_bus, "h1", "net", "PortObserved", "p1", StringValue(value="x"), retry_for_s=0.5)
    assert caught.value.retryable


async def test_a_newer_command_replaces_an_unread_one(bus: Bus) -> None:
    for value in ("old", "new"):
        await publish_command(bus, "h1", "net", "EnsurePort", "p1", StringValue(value=value), {"Cirra-Actor": "a"})
    await publish_command(bus, "h1", "net", "EnsurePort", "p2", StringValue(value="other"))
    assert (await bus.js.stream_info(bus.subjects.commands_stream)).state.messages == 2
    subject = bus.subjects.commands("h1", "net", "EnsurePort", "p1")
    kept = await bus.js.get_last_msg(bus.subjects.commands_stream, subject)
    assert StringValue.FromString(kept.data or b"").value == "new"
    assert kept.headers is not None
    assert (kept.headers["ce-type"], kept.headers["Cirra-Actor"]) == ("google.protobuf.StringValue", "a")


async def test_heartbeats_rise_over_a_restart_and_tell_boot_and_interval(bus: Bus) -> None:
    inbox = Inbox()
    await bus.subscribe(bus.subjects.all_heartbeats, inbox)
    await bus.subscribe(bus.subjects.all_service_heartbeats, inbox)
    agent = HeartbeatPublisher.for_agent(bus, host="h1", agent="net", boot_id="boot-1", interval_s=0.05)
    running = asyncio.create_task(agent.run())
    beats = [await inbox.next() for _ in range(3)]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert {beat.subject for beat in beats} == {bus.subjects.heartbeats("h1", "net")}
    decoded = [Heartbeat.FromString(beat.data) for beat in beats]
    first = decoded[0].sequence
    assert [beat.sequence for beat in decoded] == [first, first + 1, first + 2]
    assert decoded[0].boot_id == "boot-1"
    assert (decoded[0].component, decoded[0].instance, decoded[0].interval_ms) == ("net", "h1", 50)

    # As a process that was killed and started again does, on a machine that was not.
    again = HeartbeatPublisher.for_agent(bus, host="h1", agent="net", boot_id="boot-1")
    assert await again.beat()
    assert Heartbeat.FromString((await inbox.next()).data).sequence > decoded[-1].sequence

    service = HeartbeatPublisher.for_service(bus, service="conductor", replica="r1", boot_id="boot-2")
    assert await service.beat()
    while (beat := await inbox.next()).subject != bus.subjects.service_heartbeats("conductor", "r1"):
        continue
    assert Heartbeat.FromString(beat.data).component == "conductor"


async def test_a_heartbeat_without_a_server_is_dropped(own_nats: EmbeddedNats, own_bus: Bus) -> None:
    beats = HeartbeatPublisher.for_service(own_bus, service="conductor", replica="r1", boot_id="b")
    assert await beats.beat()
    await own_nats.stop()
    await eventually(lambda: asyncio.sleep(0, result=not own_bus.connected))
    assert not await beats.beat()
