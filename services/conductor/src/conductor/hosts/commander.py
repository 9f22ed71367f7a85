"""Telling hosts, and waiting for their answers."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import UUID

from cirra.agent.v1 import desired_pb2 as agent
from core.bus import Bus, publish_command
from core.eventlog.types import RecordedEvent

T = TypeVar("T")

POLL_S = 5.0

_VERBS = {"domain": "EnsureDomain", "port": "EnsurePort"}


class Changes:
    """Wakes whoever waits for something to happen to an aggregate. Fed with every event of the log."""

    def __init__(self) -> None:
        self._waiting: dict[UUID, set[asyncio.Event]] = defaultdict(set)

    def happened(self, event: RecordedEvent) -> None:
        for waiter in self._waiting.get(event.aggregate_id, ()):
            waiter.set()

    async def until(self, aggregate_id: UUID, look: Callable[[], Awaitable[T | None]]) -> T:
        """Looks at once, after each event of the aggregate, and now and then; answers what is not None."""
        woken = asyncio.Event()
        self._waiting[aggregate_id].add(woken)
        try:
            while True:
                woken.clear()
                found = await look()
                if found is not None:
                    return found
                try:
                    await asyncio.wait_for(woken.wait(), POLL_S)
                except TimeoutError:
                    continue  # a lost hint costs a poll, never a hang
        finally:
            waiters = self._waiting[aggregate_id]
            waiters.discard(woken)
            if not waiters:
                del self._waiting[aggregate_id]


class Commander:
    """Sends desired state to the host it is for. Sending it again is harmless: agents look at generations."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def ensure(self, desired: agent.DesiredObject) -> None:
        """Returns once the command is stored; `BusUnavailable` (retryable) if it could not be."""
        await publish_command(self._bus, desired.host, desired.agent, _VERBS[desired.kind], desired.object_id, desired)
