"""One run for all that asked while the last one was under way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")


@dataclass(slots=True)
class _Flight(Generic[K, R]):
    keys: dict[K, None] = field(default_factory=dict)
    task: asyncio.Task[R] | None = None


class Batch(Generic[K, R]):
    """Calls `run` with all the keys that gathered, in the order in which they were last asked for: one run at a time,
    each begun after those it answers had asked.

    Who is cancelled while waiting leaves; the run goes on.
    """

    def __init__(self, run: Callable[[tuple[K, ...]], Awaitable[R]]) -> None:
        self._run = run
        self._lock = asyncio.Lock()
        self._gathering: _Flight[K, R] | None = None
        self._tasks: set[asyncio.Task[R]] = set()
        self._begun = 0

    @property
    def busy(self) -> bool:
        return bool(self._tasks)

    @property
    def begun(self) -> int:
        """How many runs there have been, that under way and the next one, if it has been asked for, among them."""
        return self._begun

    async def ask(self, keys: Iterable[K]) -> R:
        """What the run that took these keys along returned, or raised."""
        if self._gathering is None:
            flight = self._gathering = _Flight[K, R]()
            self._begun += 1
            flight.task = asyncio.create_task(self._fly(flight))
            self._tasks.add(flight.task)
            flight.task.add_done_callback(self._landed)
        flight = self._gathering
        for key in keys:
            flight.keys.pop(key, None)
            flight.keys[key] = None
        assert flight.task is not None
        return await asyncio.shield(flight.task)

    async def idle(self) -> None:
        """Returns when nothing is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def landed(self) -> None:
        """Returns when what is under way now, or asked for, is done."""
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    async def _fly(self, flight: _Flight[K, R]) -> R:
        async with self._lock:
            self._gathering = None
            return await self._run(tuple(flight.keys))

    def _landed(self, task: asyncio.Task[R]) -> None:
        self._tasks.discard(task)
        # Those who asked have the error; when all of them were cancelled, nobody looks.
        if not task.cancelled():
            task.exception()
