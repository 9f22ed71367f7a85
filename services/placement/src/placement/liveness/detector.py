"""Declares hosts suspected, down and up. One replica at a time, under a lease; all replicas listen."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

import structlog
from google.protobuf.message import DecodeError
from nats.aio.msg import Msg

from cirra.agent.v1 import desired_pb2 as agent
from core.bus import Bus
from core.context import acting
from core.errors import NotFound
from core.eventlog.leases import HeldLease, Leases
from core.ids import host_aggregate_id
from core.repository import Repository
from placement.hosts.host import Health, Host
from placement.hosts.live_view import LiveView
from placement.liveness.tracker import NEEDED_AGENTS, Tracker

log = structlog.get_logger(__name__)

LEASE = "placement/detector"
LEASE_TTL = timedelta(seconds=5)
CANARY = "canary"


@dataclass(slots=True)
class Canary:
    """Our own heartbeat, sent to ourselves through NATS: while it doesn't arrive, the silence is ours."""

    name: str
    patience_s: float
    sequence: int = 0
    last_heard: float = field(default_factory=lambda: float("-inf"))

    def came_back(self, now: float) -> None:
        self.last_heard = now

    def hearing(self, now: float) -> bool:
        return now - self.last_heard <= self.patience_s


class Ears:
    """Listens to every heartbeat and keeps the tracker's time."""

    def __init__(self, bus: Bus, tracker: Tracker, *, replica: str) -> None:
        self._bus = bus
        self._tracker = tracker
        self._boot_id = os.urandom(8).hex()
        self._tick_s = tracker.window_s / 20
        self._canary = Canary(f"{replica}.{self._boot_id}", patience_s=tracker.window_s / 4)

    async def run(self) -> None:
        """For ever."""
        for subject in (self._bus.subjects.all_heartbeats, self._bus.subjects.all_service_heartbeats):
            await self._bus.subscribe(subject, self._on_heartbeat)
        while True:
            self._canary.sequence += 1
            heartbeat = agent.Heartbeat(component=CANARY, instance=self._canary.name, sequence=self._canary.sequence)
            subject = self._bus.subjects.service_heartbeats(CANARY, self._boot_id)
            await self._bus.publish_heartbeat(subject, heartbeat)
            await asyncio.sleep(self._tick_s)
            self._tracker.tick(hearing=self._canary.hearing(time.monotonic()))

    async def _on_heartbeat(self, message: Msg) -> None:
        try:
            heartbeat = agent.Heartbeat.FromString(message.data)
        except DecodeError:
            log.warning("heartbeat can't be read", subject=message.subject)
            return
        if heartbeat.component == CANARY:
            if heartbeat.instance == self._canary.name:
                self._canary.came_back(time.monotonic())
            return
        if not _speaks_for_itself(message.subject, heartbeat):
            log.warning("heartbeat in another's name", subject=message.subject, instance=heartbeat.instance)
            return
        self._tracker.heard(heartbeat)


def _speaks_for_itself(subject: str, heartbeat: agent.Heartbeat) -> bool:
    """<cell>.heartbeats.<host>.<agent>, which NATS lets only that host publish; services are trusted."""
    _, kind, *rest = subject.split(".")
    return kind != "heartbeats" or rest == [heartbeat.instance, heartbeat.component]


class Detector:
    """Turns silence into events. Only transitions are events."""

    def __init__(
        self, repository: Repository, leases: Leases, view: LiveView, tracker: Tracker, *, replica: str
    ) -> None:
        self._repository = repository
        self._leases = leases
        self._view = view
        self._tracker = tracker
        self._replica = replica
        self._health: dict[str, Health] = {}

    async def run(self) -> None:
        """For ever: waits for the lease, then detects while it holds."""
        while True:
            async with self._leases.hold(LEASE, self._replica, LEASE_TTL) as held:
                log.info("detecting", replica=self._replica)
                await self._detect(held)
            log.warning("the detector's lease is another's now", replica=self._replica)

    async def _detect(self, held: HeldLease) -> None:
        self._health.clear()
        for host in self._view.table.names:
            for component in NEEDED_AGENTS:
                self._tracker.expect(component, host)  # a full window from now, at least
        while not held.lost.is_set():
            for host in self._view.table.names:
                await self._judge(host)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._tracker.window_s / 20):
                    await held.lost.wait()

    async def _judge(self, host: str) -> None:
        """Appends a transition if there is one."""
        wanted, silent = self._verdict(host)
        if wanted is None or self._health.get(host) is wanted:
            return

        def decide(it: Host) -> None:
            match wanted:
                case Health.UP:
                    it.declare_up(self._tracker.boot_ids(host))
                case Health.SUSPECTED:
                    it.suspect(silent)
                case Health.DOWN:
                    it.declare_down(silent)

        with acting(actor="system/detector"):
            try:
                it, saved = await self._repository.change(Host, host_aggregate_id(host), decide)
            except NotFound:
                return
        self._health[host] = wanted
        if saved.position:
            log.info("host changed", host=host, health=it.health.value, silent_agents=silent)

    def _verdict(self, host: str) -> tuple[Health | None, list[str]]:
        """What the host's agents make it; None while it is not known."""
        window_s = self._tracker.window_s
        if not self._tracker.boot_ids(host):
            # Not heard since this replica listens: down after a full window, until then as it was.
            silence = self._tracker.silence_of(NEEDED_AGENTS[0], host)
            down = silence is not None and silence >= window_s
            return (Health.DOWN if down else None), list(NEEDED_AGENTS)
        if lost := self._tracker.silent(host, for_s=window_s):
            return Health.DOWN, lost
        if quiet := self._tracker.silent(host, for_s=window_s / 2):
            return Health.SUSPECTED, quiet
        return Health.UP, []
