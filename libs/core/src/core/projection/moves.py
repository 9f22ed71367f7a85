"""Waiting for a reader of events to have got so far."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Moves:
    """`tell` after each step forward; `until` it was far enough."""

    def __init__(self) -> None:
        self._moved = asyncio.Condition()

    async def tell(self) -> None:
        async with self._moved:
            self._moved.notify_all()

    async def until(self, is_there: Callable[[], bool], timeout_s: float) -> bool:
        """True once it is there; False when it is not in time."""
        try:
            async with asyncio.timeout(timeout_s), self._moved:
                await self._moved.wait_for(is_there)
        except TimeoutError:
            return False
        return True
