"""A detector's term in a large cloud: what was declared before is adopted, and each host's turn comes in time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from google.protobuf.message import Message

from cirra.agent.v1.desired_pb2 import Heartbeat
from cirra.placement.v1 import events_pb2 as pb
from core.eventlog.leases import Lease
from core.ids import host_aggregate_id
from placement.hosts.host import Host
from placement.hosts.live_view import LiveView
from placement.liveness import detector as module
from placement.liveness.detector import Detector
from placement.liveness.outage import Outages
from placement.liveness.tracker import NEEDED_AGENTS, Tracker

HOSTS = [f"host-{number}" for number in range(12)]
WINDOW_S = 0.6
BOOTS = dict.fromkeys(NEEDED_AGENTS, "b1")


class Log:
    """Hosts that are UP, and how often one was looked up."""

    def __init__(self) -> None:
        self.hosts: dict[UUID, Host] = {}
        self.lookups: list[str] = []
        self.view = LiveView()
        self.silent: set[str] = set()
        self._unread: list[Any] = []
        self._news = asyncio.Event()
        for name in HOSTS:
            host = self.enrol(name)
            host.declare_up(BOOTS)
            host.collect_events()
            self._happened(host.id, pb.HostUp(host=name, boot_ids=BOOTS))
        self.head = len(self._unread)

    def enrol(self, name: str) -> Host:
        """A host that was never heard."""
        host = Host.new(host_aggregate_id(name))
        host.enrol(name, "nova")
        host.collect_events()
        self.hosts[host.id] = host
        self._happened(host.id, pb.HostEnrolled(host=name, availability_zone="nova"))
        return host

    def _happened(self, host_id: UUID, message: Message) -> None:
        self._unread.append(
            SimpleNamespace(
                type=message.DESCRIPTOR.full_name,
                aggregate_id=host_id,
                data=message.SerializeToString(),
                position=len(self._unread) + 1,
            )
        )
        self._news.set()

    async def next(self) -> list[Any]:
        """As a tail."""
        await self._news.wait()
        self._news.clear()
        unread, self._unread = self._unread, []
        return unread

    def look(self) -> None:
        """As a tail's: all that there is is unread."""

    async def find(self, *_: object) -> None:
        """No term was ever begun."""

    async def save(self, *_: object) -> SimpleNamespace:
        return SimpleNamespace(position=self.head)

    async def change(self, _: type[Host], host_id: UUID, decide: Callable[[Host], None]) -> tuple[Host, Any]:
        host = self.hosts[host_id]
        self.lookups.append(host.name)
        decide(host)
        return host, SimpleNamespace(position=len(host.collect_events()))

    def health(self, name: str) -> str:
        return self.hosts[host_aggregate_id(name)].health.name


class OneLease:
    @asynccontextmanager
    async def hold(self, name: str, holder: str, ttl: timedelta) -> AsyncIterator[Any]:
        async def run(work: Awaitable[None]) -> None:
            await work

        yield SimpleNamespace(run=run, lease=Lease(name, holder, 1, ttl))


class NoRoll:
    async def call(self, tracker: Tracker) -> None:
        pass

    async def keep(self, *_: object, **__: object) -> None:
        pass

    def was_silent(self, *_: object) -> bool:
        return False

    def knows(self, *_: object) -> bool:
        return True


@asynccontextmanager
async def detecting(window_s: float) -> AsyncIterator[Log]:
    """A detector at work. All hosts beat but the silent ones."""
    log, tracker = Log(), Tracker(window_s=window_s, monotonic=time.monotonic)
    repository: Any = log
    leases: Any = OneLease()
    roll: Any = NoRoll()
    outages = Outages(together_s=3.0, monotonic=time.monotonic)
    detector = Detector(repository, leases, log.view, tracker, outages, roll, replica="r")

    async def beat() -> None:
        sequence = 0
        while True:
            sequence += 1
            for host in log.hosts.values():
                for agent in NEEDED_AGENTS:
                    if host.name not in log.silent:
                        tracker.heard(Heartbeat(component=agent, instance=host.name, boot_id="b1", sequence=sequence))
            tracker.tick(hearing=True)
            await asyncio.sleep(WINDOW_S / 20)

    tasks = [asyncio.create_task(each) for each in (log.view.follow(log), beat(), detector.run())]
    yield log
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def log(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Log]:
    """With a detector that looks at three of the twelve hosts in each pass."""
    monkeypatch.setattr(module, "_LOOKED_AT_PER_PASS", 2)
    async with detecting(WINDOW_S) as log:
        yield log


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 — the detector goes by time
            await asyncio.sleep(0.01)


async def test_in_turns_it_still_sees_each_that_falls_and_looks_up_no_other(log: Log) -> None:
    for name in HOSTS[3:7]:  # of each turn one
        log.silent.add(name)
    await until(lambda: all(log.health(name) == "DOWN" for name in HOSTS[3:7]))
    assert set(log.lookups) == set(HOSTS[3:7])


async def test_one_that_comes_back_in_another_boot_is_declared_up_in_it(log: Log) -> None:
    log.silent.add("host-5")
    await until(lambda: log.health("host-5") == "DOWN")
    log.silent.clear()
    await until(lambda: log.health("host-5") == "UP")
    assert set(log.lookups) == {"host-5"}


async def test_who_is_new_does_not_wait_for_the_next_pass() -> None:
    """They are an hour apart here."""
    async with detecting(12 * 3600.0) as log:
        for name in ("new-1", "new-2"):
            log.enrol(name)
            await until(lambda name=name: log.health(name) == "UP")  # type: ignore[misc]
    assert log.lookups == ["new-1", "new-2"]
