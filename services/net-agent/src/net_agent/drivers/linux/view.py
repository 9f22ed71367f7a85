"""The host as it is at one moment: what is costly to read is read once, for all parts that look at it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Any, TypeVar

from net_agent.drivers.linux.link_table import LinkTable
from net_agent.drivers.linux.links import Links

T = TypeVar("T")


class HostView:
    """One look. *whole*: at everything, so that one dump costs less than many questions."""

    def __init__(self, table: LinkTable, *, whole: bool) -> None:
        self._table = table
        self._whole = whole
        self._seen: dict[str, asyncio.Task[Any]] = {}

    async def links(self, names: Collection[str]) -> Links:
        """The host's own interfaces: these, if they exist, and perhaps others."""
        if self._whole:
            return await self.once("links", self._table.all)
        return await self.once(f"links {sorted(names)}", lambda: self._table.some(names))

    async def once(self, name: str, read: Callable[[], Awaitable[T]]) -> T:
        """What *read* returned when it was first asked for under this name."""
        if name not in self._seen:
            self._seen[name] = asyncio.ensure_future(_value(read))
        value: T = await asyncio.shield(self._seen[name])
        return value


async def _value(read: Callable[[], Awaitable[T]]) -> T:
    return await read()
