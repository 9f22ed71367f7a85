"""What somebody waits for: events that are gathered go at once when they are it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from core.eventlog.types import RecordedEvent


class Hurry:
    """`wanted`: the highest position that was waited for, here or in another replica."""

    def __init__(self) -> None:
        self.wanted = 0
        self._more = asyncio.Event()

    def want(self, position: int) -> None:
        """Somebody waits for the rows of this position."""
        if position > self.wanted:
            self.wanted = position
            self._more.set()

    def is_for(self, after: int, gathered: Sequence[RecordedEvent]) -> bool:
        """Whether the rows are of this position once they have the events that were gathered `after` another one."""
        return bool(gathered) and after < self.wanted <= gathered[-1].position

    async def more(self) -> None:
        """Returns once more is wanted than at the last call."""
        await self._more.wait()
        self._more.clear()
