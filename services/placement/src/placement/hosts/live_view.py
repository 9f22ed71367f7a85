"""The view of this replica, kept up to date from the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from cirra.placement.v1 import events_pb2 as pb
from core.eventlog.types import RecordedEvent
from placement.hosts.view import HostTable, HostView


class LiveView:
    """`run` follows the log for ever; everything else reads."""

    def __init__(self) -> None:
        self._view = HostView()
        self._moved = asyncio.Condition()

    @property
    def position(self) -> int:
        return self._view.position

    @property
    def table(self) -> HostTable:
        return self._view.table

    def zone_of(self, host: str) -> str:
        return self.table.zones[self.table.names.index(host)]

    def expect(self, claim_id: str, made: pb.ClaimMade, position: int) -> None:
        """A claim of our own, unless its event has come by already."""
        if position > self.position:
            self._view.expect(claim_id, made)

    async def wait_for(self, position: int, timeout_s: float) -> bool:
        """True once the view is as new as `position`; False when it is not in time."""
        try:
            async with asyncio.timeout(timeout_s), self._moved:
                await self._moved.wait_for(lambda: self.position >= position)
        except TimeoutError:
            return False
        return True

    async def follow(self, tail: AsyncIterator[RecordedEvent]) -> None:
        """Takes in events for ever. A new history (after a restore) is a new `LiveView`: the process restarts."""
        async for event in tail:
            self._view.apply(event)
            async with self._moved:
                self._moved.notify_all()
