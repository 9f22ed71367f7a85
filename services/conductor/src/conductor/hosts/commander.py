"""Telling hosts, and waiting for their answers."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar
from uuid import UUID

import structlog

from cirra.agent.v1 import desired_pb2 as agent
from core.bus import Bus, publish_command
from core.errors import CirraError
from core.eventlog.types import RecordedEvent

log = structlog.get_logger(__name__)

T = TypeVar("T")

POLL_S = 5.0
AGAIN_FIRST_S, AGAIN_LAST_S = 2.0, 15.0

_VERBS = {"domain": "EnsureDomain", "port": "EnsurePort"}


class Changes:
    """Wakes whoever waits for something to happen to an aggregate. Fed with every event of the log.

    `epoch`: the log's, as far as it is known here.
    """

    def __init__(self, epoch: int = 0) -> None:
        self.epoch = epoch
        self._waiting: dict[UUID, set[asyncio.Event]] = defaultdict(set)

    def happened(self, event: RecordedEvent) -> None:
        self.epoch = max(self.epoch, event.epoch)
        self.wake(event.aggregate_id)

    def wake(self, aggregate_id: UUID) -> None:
        """Has those who wait for the aggregate look again."""
        for waiter in self._waiting.get(aggregate_id, ()):
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
                with suppress(TimeoutError):  # a lost hint costs a poll, never a hang
                    async with asyncio.timeout(POLL_S):
                        await woken.wait()
        finally:
            waiters = self._waiting[aggregate_id]
            waiters.discard(woken)
            if not waiters:
                del self._waiting[aggregate_id]


class Commander:
    """Sends desired state to the host it is for. Sending it again is harmless: agents look at generations."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    @asynccontextmanager
    async def telling(self, desired: agent.DesiredObject, epoch: int) -> AsyncIterator[None]:
        """Sends it now, and again within the block, with growing pauses: its agent may have died at it, or a conductor
        with the answer in its hands; JetStream may lose what it has acknowledged; and reconcile never does what only
        a build's command may. `epoch`: the log's, in which the host may act."""
        told = await self.tell(desired, epoch)
        again: set[asyncio.Task[None]] = set()
        # Most are answered long before: they are spared a task.
        timer = asyncio.get_running_loop().call_later(
            AGAIN_FIRST_S, lambda: again.add(asyncio.create_task(self._keep_telling(told)))
        )
        try:
            yield
        finally:
            timer.cancel()
            for task in again:
                task.cancel()
                await asyncio.wait({task})

    async def tell(self, desired: agent.DesiredObject, epoch: int) -> agent.DesiredObject:
        """Sends it once; answers what was sent. `BusUnavailable` (retryable) if it could not be stored."""
        told = agent.DesiredObject()
        told.CopyFrom(desired)
        told.epoch = epoch
        await self._ensure(told)
        return told

    async def _keep_telling(self, desired: agent.DesiredObject) -> None:
        pause_s = AGAIN_FIRST_S
        while True:
            try:
                await self._ensure(desired)
            except CirraError as error:
                log.warning("command not sent again", host=desired.host, object_id=desired.object_id, error=str(error))
            pause_s = min(2 * pause_s, AGAIN_LAST_S)
            await asyncio.sleep(pause_s)

    async def _ensure(self, desired: agent.DesiredObject) -> None:
        """Returns once the command is stored; `BusUnavailable` (retryable) if it could not be."""
        await publish_command(self._bus, desired.host, desired.agent, _VERBS[desired.kind], desired.object_id, desired)
