"""Listens to every heartbeat and keeps the tracker's time. On every replica, whoever declares."""

from __future__ import annotations

import asyncio
import os
import time

import structlog
from google.protobuf.message import DecodeError
from nats.aio.msg import Msg

from cirra.agent.v1 import desired_pb2 as agent
from core.bus import Bus
from placement.liveness.canaries import COMPONENT as CANARY
from placement.liveness.canaries import Canaries
from placement.liveness.tracker import Tracker

log = structlog.get_logger(__name__)


class Ears:
    def __init__(self, bus: Bus, tracker: Tracker) -> None:
        self._bus = bus
        self._tracker = tracker
        self._tick_s = tracker.window_s / 20
        self._canaries = Canaries(
            bus,
            name=os.urandom(8).hex(),
            every_s=self._tick_s,
            patience_s=tracker.window_s / 4,
            monotonic=time.monotonic,
        )

    async def run(self) -> None:
        """For ever."""
        for subject in (self._bus.subjects.all_heartbeats, self._bus.subjects.all_service_heartbeats):
            await self._bus.subscribe(subject, self._on_heartbeat)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._canaries.run(), name="canaries")
            group.create_task(self._keep_time(), name="tracker's time")

    async def _keep_time(self) -> None:
        while True:
            await asyncio.sleep(self._tick_s)
            self._tracker.tick(hearing=self._canaries.hearing(), audible=self._canaries.audible)

    async def _on_heartbeat(self, message: Msg) -> None:
        try:
            heartbeat = agent.Heartbeat.FromString(message.data)
        except DecodeError:
            log.warning("heartbeat can't be read", subject=message.subject)
            return
        if heartbeat.component == CANARY:
            self._canaries.came_back(heartbeat)
        elif _speaks_for_itself(message.subject, heartbeat):
            self._tracker.heard(heartbeat)
        else:
            log.warning("heartbeat in another's name", subject=message.subject, instance=heartbeat.instance)


def _speaks_for_itself(subject: str, heartbeat: agent.Heartbeat) -> bool:
    """<cell>.heartbeats.<host>.<agent>, which NATS lets only that host publish; services are trusted."""
    _, kind, *rest = subject.split(".")
    return kind != "heartbeats" or rest == [heartbeat.instance, heartbeat.component]
