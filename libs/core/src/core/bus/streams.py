"""Streams and consumers: made by services of the control plane alone; hosts can't create any.

EVENTS is a window on the log, bounded and rebuilt at will; COMMANDS keeps the newest command for each object
for an hour, or as set; REPORTS is a work queue; DEADLETTERS keeps poison for a person. What JetStream loses
(it acknowledges before fsync), the relay and reconcile restore.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace

import structlog
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import APIError, NotFoundError, ServerError, ServiceUnavailableError

from core.bus.connection import JETSTREAM_TIMEOUT_S, Bus
from core.bus.subjects import Subjects, consumer_name
from core.settings import ServiceSettings

log = structlog.get_logger(__name__)

ACK_WAIT_S = 30.0
_REPORT_MAX_AGE_S = 24 * 3600.0
_DEAD_LETTER_MAX_AGE_S = 30 * 24 * 3600.0
_DEAD_LETTER_MAX_BYTES = 256 * 1024 * 1024
# The server's default refuses the 1,001st consumer of a stream; there is one for each agent of each host.
_MAX_COMMAND_CONSUMERS = 100_000
_DUPLICATE_WINDOW_S = 120.0
_STREAM_ATTEMPTS = 6
_STREAM_PAUSE_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSettings:
    """`events_max_age_s` and `events_max_bytes` bound the window that EVENTS keeps of the log; a host that is away for
    longer than `commands_max_age_s` learns of what it missed by its desired state."""

    replicas: int = 1
    commands_max_age_s: float = 3600.0
    events_max_age_s: float = 24 * 3600.0
    events_max_bytes: int = 1024 * 1024 * 1024


def events_config(subjects: Subjects, settings: StreamSettings, *, first_sequence: int = 1) -> StreamConfig:
    """The stream whose sequence equals the log's position, from `first_sequence` on."""
    return StreamConfig(
        name=subjects.events_stream,
        subjects=[subjects.all_events],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        num_replicas=settings.replicas,
        discard=DiscardPolicy.OLD,
        max_age=settings.events_max_age_s,
        max_bytes=settings.events_max_bytes,
        max_msgs=-1,
        duplicate_window=min(_DUPLICATE_WINDOW_S, settings.events_max_age_s),
        first_seq=first_sequence if first_sequence > 1 else None,
    )


def commands_config(subjects: Subjects, settings: StreamSettings) -> StreamConfig:
    return StreamConfig(
        name=subjects.commands_stream,
        subjects=[subjects.all_commands],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        num_replicas=settings.replicas,
        discard=DiscardPolicy.OLD,
        max_age=settings.commands_max_age_s,
        max_msgs_per_subject=1,
        max_consumers=_MAX_COMMAND_CONSUMERS,
        duplicate_window=min(_DUPLICATE_WINDOW_S, settings.commands_max_age_s),
    )


def reports_config(subjects: Subjects, settings: StreamSettings) -> StreamConfig:
    return StreamConfig(
        name=subjects.reports_stream,
        subjects=[subjects.all_reports],
        retention=RetentionPolicy.WORK_QUEUE,
        storage=StorageType.FILE,
        num_replicas=settings.replicas,
        discard=DiscardPolicy.OLD,
        max_age=_REPORT_MAX_AGE_S,
        duplicate_window=_DUPLICATE_WINDOW_S,
    )


def dead_letters_config(subjects: Subjects, settings: StreamSettings) -> StreamConfig:
    return StreamConfig(
        name=subjects.dead_letters_stream,
        subjects=[subjects.all_dead_letters],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        num_replicas=settings.replicas,
        discard=DiscardPolicy.OLD,
        max_age=_DEAD_LETTER_MAX_AGE_S,
        max_bytes=_DEAD_LETTER_MAX_BYTES,
        duplicate_window=_DUPLICATE_WINDOW_S,
    )


def stream_settings(settings: ServiceSettings) -> StreamSettings:
    """As the environment of a service has them."""
    return StreamSettings(replicas=settings.stream_replicas, commands_max_age_s=settings.commands_max_age_s)


async def ensure_streams(bus: Bus, *, settings: StreamSettings | None = None) -> None:
    """Creates what is absent and corrects what differs; safe when several replicas start at once."""
    settings = settings or StreamSettings()
    for config in (
        events_config(bus.subjects, settings),
        commands_config(bus.subjects, settings),
        reports_config(bus.subjects, settings),
        dead_letters_config(bus.subjects, settings),
    ):
        await ensure_stream(bus.js, config)


async def ensure_stream(js: JetStreamContext, config: StreamConfig) -> None:
    """Creates the stream, or changes its limits and replicas; its first sequence stays as it is.

    Raises what JetStream says for the last of `_STREAM_ATTEMPTS`: of two that create a stream in the same moment one
    may be refused with an error of the server (10049, "error creating store for stream"), and finds it there. A cluster
    whose leader was elected just now may not answer at all.
    """
    for attempt in range(1, _STREAM_ATTEMPTS + 1):
        try:
            return await _ensure_stream(js, config)
        except (ServerError, ServiceUnavailableError, NatsTimeoutError) as error:
            if attempt == _STREAM_ATTEMPTS:
                raise
            log.warning("bus.stream_not_ensured", stream=config.name, error=str(error))
        await asyncio.sleep(_STREAM_PAUSE_S * attempt)


async def _ensure_stream(js: JetStreamContext, config: StreamConfig) -> None:
    assert config.name is not None
    try:
        info = await js.stream_info(config.name)
    except NotFoundError:
        # Of several replicas that find it absent, each creates the same: the server answers each with success.
        await js.add_stream(config)
        log.info("bus.stream_created", stream=config.name)
        return
    wanted = replace(config, first_seq=info.config.first_seq)
    if _limits(info.config) != _limits(wanted):
        await js.update_stream(wanted)
        log.info("bus.stream_updated", stream=config.name)


def _limits(config: StreamConfig) -> tuple[object, ...]:
    """What is not asked for, the server tells as -1: no limit."""
    return (
        config.subjects,
        config.num_replicas,
        config.max_age,
        config.max_bytes or -1,
        config.max_msgs_per_subject or -1,
        config.duplicate_window,
    )


async def ensure_command_consumer(bus: Bus, host: str, agents: Iterable[str]) -> None:
    """One durable pull consumer for each agent of the host: one replica, in memory (1,000 cost 1 % of a core).

    It is lost with its server; a new one delivers again what COMMANDS still holds, which the agents' handlers,
    being level-triggered, take as already done. Whoever wants it back for certain uses `CommandConsumers`.
    """
    for agent in agents:
        await bus.js.add_consumer(
            bus.subjects.commands_stream,
            ConsumerConfig(
                durable_name=consumer_name(host, agent),
                name=consumer_name(host, agent),
                filter_subject=bus.subjects.commands_for(host, agent),
                deliver_policy=DeliverPolicy.ALL,
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=ACK_WAIT_S,
                max_deliver=-1,
                max_ack_pending=1000,
                num_replicas=1,
                mem_storage=True,
            ),
        )


async def delete_command_consumer(bus: Bus, host: str, agents: Iterable[str]) -> None:
    """For a host that leaves; absent is success."""
    for agent in agents:
        try:
            await bus.js.delete_consumer(bus.subjects.commands_stream, consumer_name(host, agent))
        except NotFoundError:
            continue


async def ensure_report_consumer(
    bus: Bus, name: str, facts: Iterable[str] = (), *, ack_wait_s: float = ACK_WAIT_S
) -> None:
    """A durable pull consumer on REPORTS that all replicas of one service share.

    REPORTS is a work queue: no two consumers may take the same fact. Without `facts`: all of them.
    """
    filters = [bus.subjects.reports_of(fact) for fact in sorted(facts)] or [bus.subjects.all_reports]
    await bus.js.add_consumer(
        bus.subjects.reports_stream,
        ConsumerConfig(
            durable_name=name,
            name=name,
            filter_subject=filters[0] if len(filters) == 1 else None,
            filter_subjects=filters if len(filters) > 1 else None,
            deliver_policy=DeliverPolicy.ALL,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ack_wait_s,
            max_deliver=-1,
            max_ack_pending=10_000,
        ),
    )


async def command_consumer_names(bus: Bus) -> set[str]:
    """Of all that there are on COMMANDS."""
    subject, names = f"$JS.API.CONSUMER.NAMES.{bus.subjects.commands_stream}", set[str]()
    offset, total = 0, 1
    while offset < total:
        answer = await bus.nc.request(subject, json.dumps({"offset": offset}).encode(), timeout=JETSTREAM_TIMEOUT_S)
        page = json.loads(answer.data)
        if "error" in page:
            APIError.from_error(page["error"])  # raises
        found = page.get("consumers") or []
        if not found:
            break
        names.update(found)
        offset, total = offset + len(found), page["total"]
    return names


class CommandConsumers:
    """Keeps the consumers of the known hosts in being, whatever happens to NATS.

    `run` makes sure of them after each reconnection and every `interval_s`. What this process has made once, and so
    corrected where it differed, it then looks for by name: to make 10,000 that exist costs NATS and us seconds of CPU.
    """

    def __init__(self, bus: Bus, *, interval_s: float = 30.0) -> None:
        self._bus = bus
        self._interval_s = interval_s
        self._hosts: dict[str, tuple[str, ...]] = {}
        self._made: set[str] = set()
        self._due = asyncio.Event()

    def expect(self, host: str, agents: Iterable[str]) -> None:
        """Has `run` make them, soon."""
        self._hosts[host] = tuple(agents)
        self._due.set()

    async def add(self, host: str, agents: Iterable[str]) -> None:
        """Makes them now."""
        self._hosts[host] = tuple(agents)
        await self._make(host, self._hosts[host])

    async def remove(self, host: str) -> None:
        agents = self._hosts.pop(host, ())
        self._made.difference_update(consumer_name(host, agent) for agent in agents)
        await delete_command_consumer(self._bus, host, agents)

    async def ensure(self) -> None:
        """Makes those that are missing."""
        known = self._made & await command_consumer_names(self._bus)
        for host, agents in list(self._hosts.items()):
            missing = [agent for agent in agents if consumer_name(host, agent) not in known]
            if missing and host in self._hosts:
                await self._make(host, missing)

    async def run(self) -> None:
        stop_listening = self._bus.on_connected(self._due.set)
        try:
            while True:
                await self._wait_until_due()
                await self._bus.wait_connected()
                try:
                    await self.ensure()
                except NatsError as error:
                    log.warning("bus.consumers_not_ensured", error=str(error))
                    await asyncio.sleep(1.0)
                    self._due.set()
        finally:
            stop_listening()

    async def _make(self, host: str, agents: Iterable[str]) -> None:
        await ensure_command_consumer(self._bus, host, agents)
        self._made.update(consumer_name(host, agent) for agent in agents)

    async def _wait_until_due(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._interval_s):
                await self._due.wait()
        self._due.clear()
