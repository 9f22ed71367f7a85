"""One namespace of a router or of an external network: kept as its plan has it, or looked at."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from pyroute2 import IPRoute

from net_agent.drivers.linux import nftables
from net_agent.drivers.linux.links import all_links
from net_agent.drivers.linux.namespace import Namespaces
from net_agent.drivers.linux.nftables import TableKeeper
from net_agent.drivers.linux.routing import connections, names
from net_agent.drivers.linux.routing.advertisements import Advertisements
from net_agent.drivers.linux.routing.kernel import Change, differences
from net_agent.drivers.linux.routing.layout import Space, Translated
from net_agent.drivers.linux.routing.legs import make_pair, remove_interfaces

Look = tuple[frozenset[str], list[Change]]


class SpaceKeeper:
    """Remembers what of its namespace is costly to read. folder: where routers have their files."""

    def __init__(self, namespaces: Namespaces, folder: Path) -> None:
        self._namespaces = namespaces
        self._folder = folder
        self._table = TableKeeper()
        # What connections were last compared with: they are read when it changes, and once by each agent.
        self._translated: Translated | None = None

    async def make(self, space: Space) -> Look:
        """Rules first, then the rest; returns the interfaces that were there, and what was changed."""
        return await self._namespaces.inside(space.name, lambda: self._inside(space, act=True))

    async def look(self, space: Space) -> tuple[frozenset[str], list[str]]:
        """The interfaces that are there, and what is wrong."""
        present, changes = await self._namespaces.inside(space.name, lambda: self._inside(space, act=False))
        words = [change.what for change in changes]
        words += [f"{each.name} is missing" for each in space.plan.interfaces if each.name not in present]
        router_id = space.router_id
        if router_id is not None and not self._advertisements(router_id).right(space.advertised):
            words.append("IPv6 routers are not announced as they should be")
        return present, words

    def _inside(self, space: Space, *, act: bool) -> Look:
        changes: list[Change] = []
        due = self._table.due(space.plan.table)
        if due is not None:
            changes.append(Change("; ".join(due.words), lambda: nftables.apply(due.script)))
        with IPRoute() as ip:
            links = {link.name: link for link in all_links(ip)}
            changes += differences(ip, space.plan, links)
            for change in changes if act else ():
                change.make()
        return frozenset(links), changes

    async def make_pairs(self, space: Space, present: frozenset[str]) -> list[Change]:
        """Of an external namespace: both ends of each of its pairs are there."""
        made: list[Change] = []
        for pair in space.pairs:
            router = pair.router.name
            there = self._namespaces.exists(router) and await self._namespaces.inside(router, _gateway_there)
            if pair.outer in present and there:
                continue
            await self._namespaces.create(router)
            await self._namespaces.inside(router, lambda: remove_interfaces([names.GATEWAY_DEVICE]))
            await self._namespaces.inside(space.name, partial(make_pair, pair))
            made.append(Change(f"{pair.outer}, the way out of {router}, was missing", lambda: None))
        return made

    async def finish(self, space: Space) -> None:
        """Announcements of a router, and an end to connections that are no longer as they were made."""
        router_id = space.router_id
        if router_id is not None:
            advertisements = self._advertisements(router_id)
            await self._namespaces.inside(space.name, lambda: advertisements.ensure(space.advertised))
        if self._translated != space.translated:
            await self._namespaces.inside(space.name, lambda: connections.end(space.translated.stale()))
            self._translated = space.translated

    async def remove(self, name: str) -> None:
        """What would outlive the namespace."""
        if name.startswith(names.ROUTER_PREFIX):
            advertisements = self._advertisements(name.removeprefix(names.ROUTER_PREFIX))
            await self._namespaces.on_host(advertisements.stop)

    def _advertisements(self, router_id: str) -> Advertisements:
        return Advertisements(self._folder / router_id)


def _gateway_there() -> bool:
    with IPRoute() as ip:
        return any(link.name == names.GATEWAY_DEVICE for link in all_links(ip))
