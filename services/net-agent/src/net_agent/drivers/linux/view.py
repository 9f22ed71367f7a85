"""The host as it is at one moment: what is costly to read is read once, for all parts that look at it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator
from typing import Any, TypeVar

from pyroute2 import IPRoute

from net_agent.drivers.linux.links import Link, all_links, get_link
from net_agent.drivers.linux.namespace import Namespaces

T = TypeVar("T")


class Links:
    """Interfaces of one namespace, by name and by index."""

    def __init__(self, links: Collection[Link]) -> None:
        self._by_name = {link.name: link for link in links}
        self._by_index = {link.index: link for link in links}

    def __iter__(self) -> Iterator[Link]:
        return iter(self._by_name.values())

    def get(self, name: str) -> Link | None:
        return self._by_name.get(name)

    def at(self, index: int | None) -> Link | None:
        return self._by_index.get(index) if index is not None else None

    def is_on(self, name: str, bridge: str) -> bool:
        """The interface is up, and a port of the bridge, which is up too."""
        link, master = self.get(name), self.get(bridge)
        return link is not None and master is not None and link.up and master.up and link.master == master.index


class HostView:
    """One look. *whole*: at everything, so that one dump costs less than many questions."""

    def __init__(self, namespaces: Namespaces, *, whole: bool) -> None:
        self.namespaces = namespaces
        self.is_whole = whole
        self._seen: dict[str, asyncio.Task[Any]] = {}

    async def links(self, names: Collection[str]) -> Links:
        """The host's own interfaces: these, if they exist, and perhaps others."""
        if self.is_whole:
            return await self.once("links", lambda: self.namespaces.on_host(_read_all))
        wanted = sorted(names)
        return await self.once(f"links {wanted}", lambda: self.namespaces.on_host(lambda: _read(wanted)))

    async def once(self, name: str, read: Callable[[], Awaitable[T]]) -> T:
        """What *read* returned when it was first asked for under this name."""
        if name not in self._seen:
            self._seen[name] = asyncio.ensure_future(_value(read))
        value: T = await asyncio.shield(self._seen[name])
        return value


def _read_all() -> Links:
    with IPRoute() as ip:
        return Links(all_links(ip))


def _read(names: Collection[str]) -> Links:
    with IPRoute() as ip:
        return Links([link for name in names if (link := get_link(ip, name)) is not None])


async def _value(read: Callable[[], Awaitable[T]]) -> T:
    return await read()
