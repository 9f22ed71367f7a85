"""The sender's side of liveness: small heartbeats over core NATS. Who judges silence is placement's detector."""

from __future__ import annotations

import asyncio

from cirra.agent.v1 import desired_pb2
from core.bus.connection import Bus

INTERVAL_S = 1.0


class HeartbeatPublisher:
    """One heartbeat per interval, for an agent of a host or for a replica of a service.

    `boot_id` tells one life of the sender from the next; `sequence` counts from 1 within it. The receiver
    measures silence on its own clock: no time is sent.
    """

    def __init__(
        self,
        bus: Bus,
        *,
        component: str,
        instance: str,
        boot_id: str,
        subject: str,
        interval_s: float = INTERVAL_S,
        version: str = "",
    ) -> None:
        self._bus = bus
        self._component = component
        self._instance = instance
        self._boot_id = boot_id
        self._subject = subject
        self._interval_s = interval_s
        self._version = version
        self._sequence = 0

    @classmethod
    def for_agent(
        cls, bus: Bus, *, host: str, agent: str, boot_id: str, interval_s: float = INTERVAL_S, version: str = ""
    ) -> HeartbeatPublisher:
        return cls(
            bus,
            component=agent,
            instance=host,
            boot_id=boot_id,
            subject=bus.subjects.heartbeats(host, agent),
            interval_s=interval_s,
            version=version,
        )

    @classmethod
    def for_service(
        cls, bus: Bus, *, service: str, replica: str, boot_id: str, interval_s: float = INTERVAL_S, version: str = ""
    ) -> HeartbeatPublisher:
        return cls(
            bus,
            component=service,
            instance=replica,
            boot_id=boot_id,
            subject=bus.subjects.service_heartbeats(service, replica),
            interval_s=interval_s,
            version=version,
        )

    async def beat(self) -> bool:
        """Sends one now; False when NATS is away, and then it is dropped."""
        self._sequence += 1
        heartbeat = desired_pb2.Heartbeat(
            component=self._component,
            instance=self._instance,
            boot_id=self._boot_id,
            sequence=self._sequence,
            interval_ms=round(self._interval_s * 1000),
            version=self._version,
        )
        return await self._bus.publish_heartbeat(self._subject, heartbeat)

    async def run(self) -> None:
        """For ever. The pace is kept by the clock, not by the sum of the pauses."""
        clock = asyncio.get_running_loop().time
        due = clock()
        while True:
            await self.beat()
            due = max(due + self._interval_s, clock())
            await asyncio.sleep(due - clock())
