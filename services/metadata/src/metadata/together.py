"""Looking for many things at once: what is asked for while a look is under way shares the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import islice
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

# In one look, so that none takes long.
MOST = 256


class Together(Generic[K, V]):
    """`look`: keys → what there is of them. A look that answers a question began after it was asked."""

    def __init__(self, look: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]]) -> None:
        self._look = look
        self._asked: dict[K, asyncio.Future[V | None]] = {}
        self._looking: asyncio.Task[None] | None = None

    async def get(self, key: K) -> V | None:
        """None: there is no such thing. Raises what `look` does."""
        loop = asyncio.get_running_loop()
        future = self._asked.get(key)
        if future is None:
            future = self._asked[key] = loop.create_future()
        if self._looking is None:
            self._looking = loop.create_task(self._look_for_all())
        return await asyncio.shield(future)

    async def _look_for_all(self) -> None:
        try:
            while self._asked:
                asked = {key: self._asked.pop(key) for key in tuple(islice(self._asked, MOST))}
                await self._look_for(asked)
        finally:
            self._looking = None

    async def _look_for(self, asked: Mapping[K, asyncio.Future[V | None]]) -> None:
        try:
            found = await self._look(tuple(asked))
        except Exception as error:
            for future in asked.values():
                future.set_exception(error)
                future.exception()  # who asked may have gone; that is no news to the loop
        else:
            for key, future in asked.items():
                future.set_result(found.get(key))
