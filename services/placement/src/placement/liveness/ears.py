"""Listens to every heartbeat and keeps the tracker's time. On every replica, whoever declares.

10,000 hosts send 30,000 a second, which arrive one by one. They are heard on a connection of their own that takes what
has gathered every now and then: what a heartbeat says of seconds does not need milliseconds.
"""

from __future__ import annotations

import asyncio
import os
import time

import structlog
from google.protobuf.message import DecodeError

from cirra.agent.v1 import desired_pb2 as agent
from core.bus import Bus
from placement.liveness.canaries import COMPONENT as CANARY
from placement.liveness.canaries import Canaries
from placement.liveness.tracker import Tracker

log = structlog.get_logger(__name__)


REST_S = 0.05


class Ears:
    """`bus`: through which the canaries are sent. `hearing`: through which everybody is heard."""

    def __init__(self, bus: Bus, hearing: Bus, tracker: Tracker) -> None:
        self._hearing = hearing
        self._tracker = tracker
        self._tick_s = tracker.window_s / 20
        self._of_hosts = hearing.subjects.all_heartbeats.removesuffix(">")
        self._canaries = Canaries(
            bus,
            name=os.urandom(8).hex(),
            every_s=self._tick_s,
            patience_s=tracker.window_s / 4,
            monotonic=time.monotonic,
        )

    async def run(self) -> None:
        """For ever."""
        subjects = self._hearing.subjects
        for subject in (subjects.all_heartbeats, subjects.all_service_heartbeats):
            await self._hearing.pour(subject, self._on_heartbeat)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._canaries.run(), name="canaries")
            group.create_task(self._keep_time(), name="tracker's time")

    async def _keep_time(self) -> None:
        while True:
            await asyncio.sleep(self._tick_s)
            self._tracker.tick(hearing=self._canaries.hearing(), way=self._canaries.way)

    def _on_heartbeat(self, subject: bytes, data: bytes) -> None:
        try:
            heartbeat = agent.Heartbeat.FromString(data)
        except DecodeError:
            log.warning("heartbeat can't be read", subject=subject.decode())
            return
        if heartbeat.component == CANARY:
            self._canaries.came_back(heartbeat)
        elif self._speaks_for_itself(subject, heartbeat):
            self._tracker.heard(heartbeat)
        else:
            log.warning("heartbeat in another's name", subject=subject.decode(), instance=heartbeat.instance)

    def _speaks_for_itself(self, subject: bytes, heartbeat: agent.Heartbeat) -> bool:
        """<cell>.heartbeats.<host>.<agent>, which NATS lets only that host publish; services are trusted."""
        own = f"{self._of_hosts}{heartbeat.instance}.{heartbeat.component}"
        spoken = subject.decode()
        return spoken == own or not spoken.startswith(self._of_hosts)
