"""The sender's side of liveness: small heartbeats over core NATS. Who judges silence is placement's detector."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of

import nats.errors

from cirra.agent.v1 import desired_pb2
from core.bus.connection import Bus

INTERVAL_S = 1.0


class HeartbeatPublisher:
    """One heartbeat per interval, for an agent of a host or for a replica of a service.

    `sequence` rises within a boot, also over restarts of the sender in it: it begins at *first_sequence*, by default
    the milliseconds since the boot, of which more pass than there are heartbeats. The receiver measures silence on its
    own clock: no time is compared.
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
        host: str = "",
        first_sequence: int | None = None,
    ) -> None:
        self._bus = bus
        self._component = component
        self._instance = instance
        self._boot_id = boot_id
        self._subject = subject
        self._interval_s = interval_s
        self._version = version
        self._host = host
        self._next = _milliseconds_since_boot() if first_sequence is None else first_sequence

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
            host=host,
        )

    @classmethod
    def for_service(
        cls,
        bus: Bus,
        *,
        service: str,
        replica: str,
        boot_id: str,
        interval_s: float = INTERVAL_S,
        version: str = "",
        machine: str = "",
    ) -> HeartbeatPublisher:
        return cls(
            bus,
            component=service,
            instance=replica,
            boot_id=boot_id,
            subject=bus.subjects.service_heartbeats(service, replica),
            interval_s=interval_s,
            version=version,
            host=machine,
        )

    async def leave(self) -> None:
        """The last one, of a replica that ends in order: it is not missed. Dropped when NATS is away."""
        with suppress(nats.errors.Error, TimeoutError):
            if await self.beat(leaving=True):
                await self._bus.nc.flush(timeout=1)

    async def beat(self, *, leaving: bool = False) -> bool:
        """Sends one now; False when NATS is away, and then it is dropped."""
        sequence, self._next = self._next, self._next + 1
        heartbeat = desired_pb2.Heartbeat(
            component=self._component,
            instance=self._instance,
            boot_id=self._boot_id,
            sequence=sequence,
            interval_ms=round(self._interval_s * 1000),
            version=self._version,
            host=self._host,
            nats_server=self._bus.server_name,
            leaving=leaving,
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


def _milliseconds_since_boot() -> int:
    """CLOCK_BOOTTIME, which also counts a suspended machine's time (clock_gettime(2))."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def installed_version() -> str:
    """Of Cirra, in this process; empty when it runs from sources that were not installed."""
    try:
        return version_of("cirra-core")
    except PackageNotFoundError:
        return ""
