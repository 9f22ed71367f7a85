"""Streams and consumers are made once, corrected, and made again."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo
from nats.js.errors import NotFoundError

from core.bus import (
    Bus,
    CommandConsumers,
    StreamSettings,
    ensure_command_consumer,
    ensure_report_consumer,
    ensure_streams,
)
from core.bus.streams import command_consumer_names, delete_command_consumer, events_config, stream_settings
from core.bus.subjects import consumer_name
from core.embedded.nats import EmbeddedNats
from core.settings import ServiceSettings

from .handling import eventually


async def test_replicas_that_start_at_once_make_the_same_streams(own_nats: EmbeddedNats, own_bus: Bus) -> None:
    for stream in ("EVENTS", "COMMANDS", "REPORTS", "DEADLETTERS"):
        await own_bus.js.delete_stream(f"{own_bus.cell}-{stream}")
    await asyncio.gather(*(ensure_streams(own_bus) for _ in range(5)))
    names = {info.config.name for info in await own_bus.js.streams_info()}
    assert names == {f"{own_bus.cell}-{kind}" for kind in ("EVENTS", "COMMANDS", "REPORTS", "DEADLETTERS")}


async def test_changed_limits_are_applied_and_the_first_sequence_stays(bus: Bus) -> None:
    settings = StreamSettings()
    await bus.js.delete_stream(bus.subjects.events_stream)
    await bus.js.add_stream(events_config(bus.subjects, settings, first_sequence=1000))
    await ensure_streams(bus, settings=replace(settings, events_max_age_s=60.0, events_max_bytes=1_000_000))
    info = await bus.js.stream_info(bus.subjects.events_stream)
    assert (info.config.max_age, info.config.max_bytes, info.config.first_seq) == (60.0, 1_000_000, 1000)
    acknowledged = await bus.js.publish(bus.subjects.events("instance", "i", "X"), b"")
    assert acknowledged.seq == 1000


async def test_services_that_share_their_environment_agree_on_the_streams(bus: Bus) -> None:
    own = ServiceSettings(commands_max_age_s=90.0)
    await ensure_streams(bus, settings=stream_settings(own))
    info = await bus.js.stream_info(bus.subjects.commands_stream)
    assert (info.config.max_age, info.config.num_replicas, info.config.duplicate_window) == (90.0, 1, 90.0)


async def test_streams_that_are_as_they_shall_be_are_left_alone(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    updated: list[object] = []
    monkeypatch.setattr(JetStreamContext, "update_stream", lambda _, config: updated.append(config.name))
    await ensure_streams(bus)
    assert updated == []


async def test_a_stream_takes_more_consumers_than_the_servers_default(bus: Bus) -> None:
    info = await bus.js.stream_info(bus.subjects.commands_stream)
    assert info.config.max_consumers is not None
    assert info.config.max_consumers > 3000


async def test_consumers_of_hosts_come_back_after_the_server(own_nats: EmbeddedNats, own_bus: Bus) -> None:
    consumers = CommandConsumers(own_bus)
    keeping = asyncio.create_task(consumers.run())
    await consumers.add("h1", ["compute", "net"])
    await own_nats.restart()
    await own_bus.wait_connected()
    await eventually(lambda: exists(own_bus, "h1--compute"))
    await eventually(lambda: exists(own_bus, "h1--net"))
    await consumers.remove("h1")
    assert not await exists(own_bus, "h1--net")
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


async def test_of_many_consumers_only_the_missing_are_made_again(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than the server names in one answer."""
    hosts = [f"h{number}" for number in range(1030)]
    consumers, made = CommandConsumers(bus), []
    for host in hosts:
        await consumers.add(host, ["compute"])
    assert await command_consumer_names(bus) >= {f"{host}--compute" for host in hosts}
    await delete_command_consumer(bus, "h7", ["compute"])
    add_consumer = JetStreamContext.add_consumer

    async def noted(js: JetStreamContext, stream: str, config: ConsumerConfig) -> ConsumerInfo:
        made.append(config.durable_name)
        return await add_consumer(js, stream, config)

    monkeypatch.setattr(JetStreamContext, "add_consumer", noted)
    await consumers.ensure()
    assert made == ["h7--compute"]
    assert await exists(bus, "h7--compute")


async def test_what_another_process_made_is_corrected_once(bus: Bus) -> None:
    name = consumer_name("h1", "compute")
    wrong = ConsumerConfig(
        durable_name=name,
        filter_subject=bus.subjects.commands_for("h2", "compute"),
        ack_policy=AckPolicy.EXPLICIT,
        num_replicas=1,
        mem_storage=True,
    )
    await bus.js.add_consumer(bus.subjects.commands_stream, wrong)
    consumers = CommandConsumers(bus)
    consumers.expect("h1", ["compute"])
    await consumers.ensure()
    info = await bus.js.consumer_info(bus.subjects.commands_stream, name)
    assert info.config.filter_subject == bus.subjects.commands_for("h1", "compute")


async def test_ensuring_a_consumer_again_keeps_its_place(bus: Bus) -> None:
    await ensure_command_consumer(bus, "h1", ["compute"])
    await bus.js.publish(bus.subjects.commands("h1", "compute", "EnsureDomain", "o"), b"x")
    subscription = await bus.js.pull_subscribe_bind("h1--compute", bus.subjects.commands_stream)
    (message,) = await subscription.fetch(1, timeout=60)
    await message.ack_sync()
    await ensure_command_consumer(bus, "h1", ["compute"])
    info = await bus.js.consumer_info(bus.subjects.commands_stream, "h1--compute")
    assert (info.num_pending, info.num_ack_pending) == (0, 0)
    await delete_command_consumer(bus, "h1", ["compute", "never-made"])
    assert not await exists(bus, "h1--compute")


async def test_services_share_the_reports_by_fact(bus: Bus) -> None:
    await ensure_report_consumer(bus, "conductor", ["DomainObserved", "PortObserved"])
    await ensure_report_consumer(bus, "placement", ["InventoryReported"])
    for fact in ("DomainObserved", "InventoryReported", "PortObserved"):
        await bus.js.publish(bus.subjects.reports("h1", "compute", fact, "o"), b"")
    pending = [
        (await bus.js.consumer_info(bus.subjects.reports_stream, name)).num_pending
        for name in ("conductor", "placement")
    ]
    assert pending == [2, 1]


async def exists(bus: Bus, consumer: str) -> bool:
    try:
        await bus.js.consumer_info(bus.subjects.commands_stream, consumer)
    except NotFoundError:
        return False
    return True
