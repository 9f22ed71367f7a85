"""Whether hosts can be told anything, as this replica knows it: what was read is good for a moment, or until news.

Who waits for a host looks again and again, at the same few rows: a create alone looked eight times.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from conductor.hosts.desired_state import HostStanding
from core.eventlog.types import RecordedEvent

FRESH_S = 1.0


@dataclass(frozen=True, slots=True)
class _Known:
    standing: HostStanding
    read_at: float
    life: int


class Standings:
    """`read`: of a host, from the projection. `caught_up`: returns once that has all that is in the log by now.
    `life`: another number when another log may be behind the connections.

    Fed with every event of the log (`happened`). The projection may be behind an event of a host: nothing is kept for a
    moment after one.
    """

    def __init__(
        self,
        read: Callable[[str], Awaitable[HostStanding]],
        *,
        life: Callable[[], int],
        monotonic: Callable[[], float],
        caught_up: Callable[[], Awaitable[object]],
    ) -> None:
        self._read = read
        self._caught_up = caught_up
        self._life = life
        self._monotonic = monotonic
        self._known: dict[str, _Known] = {}
        # Who asks while a host is read is told what that finds.
        self._reading: dict[tuple[str, int], asyncio.Task[HostStanding]] = {}
        self._epoch = 0
        self._doubted_until = 0.0

    def happened(self, event: RecordedEvent) -> None:
        if event.aggregate_type == "host" or event.epoch != self._epoch:
            self._epoch = event.epoch
            self._known.clear()
            self._reading.clear()
            self._doubted_until = self._monotonic() + FRESH_S

    async def is_down(self, host: str) -> bool:
        """By rows that have all that is in the log by now: placement may have heard before them that a host is back,
        and given it what is asked for here. Raises Unavailable when they don't get there."""
        await self._caught_up()
        return (await self._read(host)).down

    async def standing(self, host: str) -> HostStanding:
        """Not older than a second."""
        now, life = self._monotonic(), self._life()
        known = self._known.get(host)
        if known is not None and known.life == life and now < known.read_at + FRESH_S:
            return known.standing
        reading = self._reading.get((host, life))
        if reading is None:
            reading = asyncio.create_task(self._look(host, now, life), name=f"standing {host}")
            self._reading[host, life] = reading
        return await asyncio.shield(reading)

    async def _look(self, host: str, now: float, life: int) -> HostStanding:
        try:
            standing = await self._read(host)
            # What was asked for before an event may have been answered before it.
            if now >= self._doubted_until:
                self._known[host] = _Known(standing, now, life)
            return standing
        finally:
            if self._reading.get((host, life)) is asyncio.current_task():
                del self._reading[host, life]
