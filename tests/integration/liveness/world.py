"""What a detector hears and says: hosts that beat or fall silent, and the log of what was declared."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from google.protobuf.message import Message

from cirra.placement.v1 import events_pb2 as pb
from cirra.placement.v1 import scheduling_pb2 as api
from cirra.placement.v1 import scheduling_pb2_grpc
from core.bus import Bus, connect
from core.bus.streams import ensure_streams
from core.context import current_context
from core.eventlog import Append, EventLog, Leases, NewEvent
from core.ids import host_aggregate_id, uuid7
from core.liveness import HeartbeatPublisher
from core.relay import Relay
from core.repository import Repository
from core.rpc.client import channel
from core.sealing import Keyring
from placement.hosts.host import Evacuation, Health, Host
from placement.liveness.detector import LEASE
from placement.liveness.term import DETECTOR_ID, DetectorTerm
from placement.liveness.tracker import NEEDED_AGENTS
from tests.harness.promptness import bound_s, in_time, lateness, within
from tests.integration.liveness.replicas import WINDOW_S, Replica

BEAT_S = 0.2
# A busy machine takes its time; only what never comes takes so long.
PATIENCE_S = 120.0
# Who detects may be away for so long (DESIGN §2): until another one has taken over.
TAKEOVER_S = 10.0
# From the first silence, or a takeover, until it is declared.
DOWN_S = WINDOW_S * 5
# A machine that keeps a process from running for so long may have it taken for silent: suspicion comes after half a
# window, less a beat and the detector's own pauses.
LATE_S = WINDOW_S / 8


class BeatingHost:
    """Enrolled, and heard as long as it is not `silent`. Both agents over one connection, to the given servers."""

    def __init__(self, name: str, bus: Bus, boot_id: str = "boot-1") -> None:
        self.name = name
        self.bus = bus
        self.boot_id = boot_id
        self._tasks: list[asyncio.Task[None]] = []

    def beat(self) -> None:
        """Nothing new if it does."""
        if self._tasks:
            return
        for agent in NEEDED_AGENTS:
            publisher = HeartbeatPublisher.for_agent(
                self.bus, host=self.name, agent=agent, boot_id=self.boot_id, interval_s=BEAT_S, version="1.2.3"
            )
            self._tasks.append(asyncio.create_task(publisher.run(), name=f"{agent} of {self.name}"))

    async def silence(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()


@dataclass(frozen=True, slots=True)
class Declared:
    """A transition in the log, in short."""

    host: str
    event: str
    message: Any


class World:
    def __init__(
        self,
        log: EventLog,
        repository: Repository,
        bus: Bus,
        cell: str,
        credentials: Path | None,
        stack: AsyncExitStack,
    ) -> None:
        self.log = log
        self.repository = repository
        self.bus = bus
        self._cell = cell
        self._credentials = credentials
        self._stack = stack
        self._beating: list[BeatingHost] = []

    async def host(self, name: str, servers: Sequence[str] = (), *, bus: Bus | None = None) -> BeatingHost:
        """One that beats. `servers`: the NATS servers that its agents know; those of the world by default. `bus`: that
        of its agents, instead."""
        await self.enrol(name)
        if bus is None:
            bus = await connect(
                list(servers or self.bus.servers), cell=self._cell, name=name, credentials=self._credentials
            )
        self._stack.push_async_callback(bus.close)
        beating = BeatingHost(name, bus)
        beating.beat()
        self._beating.append(beating)
        self._stack.push_async_callback(beating.silence)
        return beating

    async def enrol(self, name: str) -> None:
        """Unless it is, from an earlier round."""
        if await self.repository.find(Host, host_aggregate_id(name)) is None:
            host = Host.new(host_aggregate_id(name))
            host.enrol(name, "nova")
            await self.repository.save(host)

    async def hosts(self, *names: str, servers: Sequence[str] = ()) -> list[BeatingHost]:
        """Returns when all are UP."""
        hosts = [await self.host(name, servers) for name in names]
        for host in hosts:
            await self.until(host, Health.UP)
        return hosts

    async def silence_all(self) -> None:
        for host in self._beating:
            await host.silence()

    async def as_ever(self, replicas: Sequence[Replica], hosts: Sequence[BeatingHost]) -> None:
        """Returns when all of these run, beat and are UP, and nobody waits for an evacuation."""
        await asyncio.gather(*(replica.revive() for replica in replicas))
        for host in hosts:
            host.beat()
        for host in hosts:
            await self.until_host(host, lambda it: it.health is Health.UP and it.evacuation is Evacuation.NONE)

    async def health(self, host: BeatingHost) -> Health:
        return (await self.aggregate(host)).health

    async def aggregate(self, host: BeatingHost) -> Host:
        return await self.repository.load(Host, host_aggregate_id(host.name))

    async def until(self, host: BeatingHost, health: Health, within_s: float = PATIENCE_S) -> Host:
        return await self.until_host(host, lambda found: found.health is health, within_s)

    async def until_host(self, host: BeatingHost, holds: Callable[[Host], bool], within_s: float = PATIENCE_S) -> Host:
        """`within_s`: where it is promised (`in_rounds`); the default is patience that only a failure needs."""
        async with within(within_s, f"{host.name} is as it should be"):
            while not holds(found := await self.aggregate(host)):  # noqa: ASYNC110 — the log is asked
                await asyncio.sleep(0.05)
        return found

    async def until_boot(self, host: BeatingHost, boot_id: str, within_s: float) -> None:
        """Until the log knows that the agents are of that boot."""
        told = dict.fromkeys(NEEDED_AGENTS, boot_id)
        await self.until_host(host, lambda it: it.boot_ids == told, within_s)

    async def all_up(self, hosts: Sequence[BeatingHost]) -> None:
        """Raises NotInTime unless they are."""
        found = {host.name: await self.health(host) for host in hosts}
        in_time(set(found.values()) <= {Health.UP}, f"whoever beats is UP: {found}")

    async def position(self) -> int:
        return (await self.log.head()).position

    async def declared(self, after: int) -> list[Declared]:
        """What was said of hosts after a position, in order; takeovers and inventories left out."""
        kinds: dict[str, type[Message]] = {
            kind.DESCRIPTOR.full_name: kind
            for kind in (pb.HostSuspected, pb.HostDown, pb.HostUp, pb.HostEvacuationHeld, pb.HostEvacuationApproved)
        }
        found = []
        for event in await self.log.read(after=after, limit=10_000):
            if event.type in kinds:
                message: Any = kinds[event.type].FromString(event.data)
                found.append(Declared(message.host, kinds[event.type].__name__, message))
        return found

    async def nothing_declared(self, after: int, hosts: Sequence[BeatingHost]) -> None:
        """Raises NotInTime if anything was said of these after a position; no lateness excuses that one is down."""
        names = {host.name for host in hosts}
        declared = [(each.host, each.event) for each in await self.declared(after) if each.host in names]
        assert [each for each in declared if each[1] == "HostDown"] == []
        in_time(not declared, f"nothing is said of who beats: {declared}")

    async def first(self, kind: type[Message], after: int, host: str = "") -> datetime:
        """When the first of that kind after a position was recorded; `host`: of that one."""
        for event in await self.log.read(after=after, limit=10_000):
            if event.type == kind.DESCRIPTOR.full_name:
                message: Any = kind.FromString(event.data)
                if not host or message.host == host:
                    return event.recorded_at
        raise LookupError(f"no {kind.DESCRIPTOR.name} after {after}")

    async def now(self) -> datetime:
        """By the clock that events are recorded by."""
        found: datetime = await self.log.pool.fetchval("SELECT clock_timestamp()")
        return found

    async def downs(self, after: int) -> list[str]:
        """Who was declared down after a position, in order."""
        return [each.host for each in await self.declared(after) if each.event == "HostDown"]

    async def detector(self) -> DetectorTerm:
        return await self.repository.load(DetectorTerm, DETECTOR_ID)

    async def of_earlier_terms(self, after: int, term: int) -> list[Declared]:
        """What was said of hosts after a position by detectors before that term."""
        declared = [each for each in await self.declared(after) if each.event != "HostEvacuationApproved"]
        return [each for each in declared if each.message.term < term]

    async def takeover(self, term: int, replicas: Iterable[Replica]) -> DetectorTerm:
        """Whose turn it is once another has taken over, which is promised. Whoever had that term is away from now on.

        What is waited for is a lease, and how long is asserted in Postgres's time. The rest is the other one's work.
        """
        began = time.monotonic()
        lease = f'SELECT expires_at - clock_timestamp() FROM "{self.log.schema}".leases WHERE name = $1'
        left: timedelta = await self.log.pool.fetchval(lease, LEASE)
        assert left < timedelta(seconds=TAKEOVER_S), "the lease of who is away runs out"
        await self._append()
        work_s = time.monotonic() - began
        async with lateness(lambda: [pid for replica in replicas for pid in replica.pids]) as machine:
            found = await self.next_term(term)
        took_s, bound = time.monotonic() - began, bound_s(TAKEOVER_S, work_s=work_s, waited_s=machine.total_s)
        in_time(took_s < bound, f"another one detects: after {took_s:.2f} s, not {bound:.2f} s")
        return found

    async def _append(self) -> None:
        """Something that concerns nobody."""
        kind = "cirra.test.v1.ThingHappened"
        event = NewEvent(aggregate_type="thing", aggregate_id=uuid7(), version=1, type=kind, data=b"", event_id=uuid7())
        await self.log.append(Append((event,)))

    async def next_term(self, term: int) -> DetectorTerm:
        """Whose turn it is once that of this term is over."""
        async with asyncio.timeout(PATIENCE_S):
            while (found := await self.detector()).term == term:  # noqa: ASYNC110 — the log is asked
                await asyncio.sleep(0.05)
        return found

    async def services(self, replica: Replica) -> dict[tuple[str, str], api.Liveness]:
        """What a replica says of all that it knows."""
        async with channel([replica.address], None) as opened:
            stub = scheduling_pb2_grpc.SchedulingServiceStub(opened)
            answer = await stub.GetLiveness(api.GetLivenessRequest())
        return {(entry.service, entry.instance): entry for entry in answer.entries}

    async def until_service(self, replica: Replica, key: tuple[str, str], *, up: bool) -> None:
        """Until that replica says so of it."""
        async with asyncio.timeout(PATIENCE_S):
            while (known := (await self.services(replica)).get(key)) is None or known.up is not up:  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    async def until_forgotten(self, replica: Replica, key: tuple[str, str]) -> None:
        """Until that replica knows nothing of it any more: it left in order."""
        async with asyncio.timeout(PATIENCE_S):
            while key in await self.services(replica):  # noqa: ASYNC110 — a replica is asked
                await asyncio.sleep(0.1)

    async def until_on_roll(self, host: BeatingHost, *, up: bool) -> None:
        """Until the detector has written it down of all its agents."""
        query = f'SELECT up FROM "{self._cell}_placement".roll WHERE instance = $1'
        wanted = [up] * len(NEEDED_AGENTS)
        async with asyncio.timeout(PATIENCE_S):
            while [row["up"] for row in await self.log.pool.fetch(query, host.name)] != wanted:  # noqa: ASYNC110 — the table is asked
                await asyncio.sleep(0.05)


@asynccontextmanager
async def world(
    *, cell: str, dsn: str, nats_urls: Sequence[str], credentials: Path | None = None
) -> AsyncIterator[World]:
    """A log, mirrored to NATS, for as long as the block lasts."""
    async with AsyncExitStack() as stack:
        log = await EventLog.open(dsn, schema=f"{cell}_log")
        stack.push_async_callback(log.close)
        bus = await connect(list(nats_urls), cell=cell, name="tests", credentials=credentials)
        stack.push_async_callback(bus.close)
        await ensure_streams(bus)
        relay = asyncio.create_task(Relay(log, Leases(log.pool, log.schema), bus, holder="tests").run())
        stack.callback(relay.cancel)
        repository = Repository(log, Keyring(log.pool, log.schema, bytes(32)), current_context)
        yield World(log, repository, bus, cell, credentials, stack)
