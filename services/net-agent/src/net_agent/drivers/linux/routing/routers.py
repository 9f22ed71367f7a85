"""The routers of this host: made from all that is wanted of them by difference, observed, and taken away."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import structlog
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from net_agent.drivers.base import NetworkFault
from net_agent.drivers.linux import nftables
from net_agent.drivers.linux.links import all_links, delete_link
from net_agent.drivers.linux.namespace import Namespaces
from net_agent.drivers.linux.nftables import TableKeeper
from net_agent.drivers.linux.routing import bridge_plan, names
from net_agent.drivers.linux.routing.announcer import Announcer
from net_agent.drivers.linux.routing.desired import Routing
from net_agent.drivers.linux.routing.kernel import Change
from net_agent.drivers.linux.routing.layout import Space, layout
from net_agent.drivers.linux.routing.legs import HostLinks, leg_changes, remove_interfaces
from net_agent.drivers.linux.routing.numbers import LinkNumbers, Spaces
from net_agent.drivers.linux.routing.space import SpaceKeeper

_log = structlog.get_logger(__name__)
# One change may bring another to light: an interface that is made anew has no routes.
_ROUNDS = 4


class Routers:
    """folder: of their own on this host's disk. One change at a time."""

    def __init__(self, namespaces: Namespaces, folder: Path) -> None:
        self._namespaces = namespaces
        self._folder = folder
        self._numbers = LinkNumbers(folder / "links.json")
        self._spaces = Spaces(folder / "namespaces.json")
        self._announcer = Announcer(namespaces)
        self._keepers: dict[str, SpaceKeeper] = {}
        self._bridges = TableKeeper()
        # What was made so, with nothing left to do: only what differs from it is looked at for a change.
        self._made: dict[str, Space] = {}
        self._lock = asyncio.Lock()

    async def ensure(self, desired: Routing, suspects: Collection[str] = ()) -> dict[str, NetworkFault]:
        """All routers are as they are wanted; others are gone. Returns router id → why it is not.

        What was made before and has not changed since is left alone, unless the router is suspected.
        """
        async with self._lock:
            spaces = await self._layout(desired)
            await self._sweep(spaces)
            if not spaces:
                return {}
            await asyncio.to_thread(self._spaces.set, frozenset(it.name for it in spaces))
            due = [it for it in spaces if self._made.get(it.name) != it or not set(suspects).isdisjoint(it.owners)]
            faults = {
                router_id: NetworkFault(text, reason="ROUTER_INCOMPLETE")
                for it in spaces
                for router_id, text in it.problems.items()
            }
            await self._namespaces.on_host(lambda: self._guard(desired, spaces))
            for it in due:
                self._made.pop(it.name, None)
            faults |= await self._make(spaces, due)
            for it in due:
                if not any(owner in faults for owner in it.owners):
                    self._made[it.name] = it
            return faults

    async def observe(self, desired: Routing) -> dict[str, tuple[str, ...]]:
        """Router id → what of it is not as it should be, in words; one that is right is left out."""
        async with self._lock:
            spaces = await self._layout(desired)
            if not spaces:
                return {}
            wrong: defaultdict[str, list[str]] = defaultdict(list)
            looks = await asyncio.gather(*map(self._look, spaces))
            present = {it.name: names for it, (names, _) in zip(spaces, looks, strict=True)}
            words = await self._namespaces.on_host(lambda: self._look_at_host(desired, spaces, present))
            for it, (_, inside) in zip(spaces, looks, strict=True):
                for owner in it.owners:
                    wrong[owner] += [*inside, *words[it.name], *words[""]]
                for owner, problem in it.problems.items():
                    wrong[owner].append(problem)
            return {owner: tuple(dict.fromkeys(each)) for owner, each in wrong.items() if each}

    async def clear(self) -> None:
        """Nothing of any router is left on this host."""
        async with self._lock:
            await self._sweep(())

    async def close(self) -> None:
        await self._announcer.close()

    async def _layout(self, desired: Routing) -> tuple[Space, ...]:
        outgoing = frozenset(router.router_id for router in desired.routers if router.gateway is not None)
        links = await asyncio.to_thread(self._numbers.allot, outgoing)
        return layout(desired, links, self._namespaces.path)

    def _keeper(self, name: str) -> SpaceKeeper:
        if name not in self._keepers:
            self._keepers[name] = SpaceKeeper(self._namespaces, self._folder)
        return self._keepers[name]

    # ---- making

    def _guard(self, desired: Routing, spaces: Iterable[Space]) -> None:
        """Before the first leg is there: no moment in which a gateway is heard on other hosts."""
        with IPRoute() as ip:
            due = self._bridges.due(_bridge_table(HostLinks(ip), desired, spaces))
        if due is not None:
            nftables.apply(due.script)

    async def _make(self, spaces: Collection[Space], due: Collection[Space]) -> dict[str, NetworkFault]:
        """In rounds, external namespaces first: the pairs that begin there end in routers'."""
        faults: dict[str, NetworkFault] = {}
        names_due = {it.name for it in due}
        for _ in range(_ROUNDS):
            changed: set[str] = set()
            for outside in (True, False):
                step = [it for it in spaces if it.name in names_due and (it.router_id is None) == outside]
                for it in await self._make_all(step, faults):
                    changed.add(it.name)
                    # Also a router's that had nothing to do: the end of its way out may be new.
                    names_due |= {names.router_namespace(owner) for owner in it.owners}
            if not changed:
                break
            names_due = changed
        return faults

    async def _make_all(self, step: Collection[Space], faults: dict[str, NetworkFault]) -> list[Space]:
        """Those in which something was changed; what went wrong is added to *faults*."""
        changed: list[Space] = []
        for it, outcome in zip(
            step, await asyncio.gather(*map(self._make_one, step), return_exceptions=True), strict=True
        ):
            if isinstance(outcome, NetworkFault | NetlinkError | OSError):
                faults |= dict.fromkeys(it.owners, _fault(it, outcome))
            elif isinstance(outcome, BaseException):
                raise outcome
            elif outcome:
                _log.info("routing changed", namespace=it.name, what=[change.what for change in outcome])
                changed.append(it)
        return changed

    async def _make_one(self, space: Space) -> list[Change]:
        """One round; returns what was changed."""
        keeper = self._keeper(space.name)
        await self._namespaces.create(space.name)
        present, made = await keeper.make(space)
        if missing := await self._namespaces.on_host(lambda: _make_legs(space, present)):
            made += missing
        made += await keeper.make_pairs(space, present)
        await keeper.finish(space)
        if addresses := {change.announce for change in made if change.announce is not None}:
            self._announcer.announce(space.name, names.EXTERNAL_DEVICE, addresses)
        return made

    async def _sweep(self, spaces: Collection[Space]) -> None:
        """What is there of routers that nobody wants any more goes, also what no record tells of."""
        wanted = {it.name for it in spaces}
        legs = {leg.outer for it in spaces for leg in it.legs}
        recorded = await asyncio.to_thread(self._spaces.names)
        for name in sorted((recorded | await self._namespaces.on_host(_spaces_with_legs)) - wanted):
            await self._remove(name)
        await self._namespaces.on_host(lambda: _remove_legs(legs))
        await asyncio.to_thread(self._spaces.set, recorded & wanted)
        if not spaces:
            await self._namespaces.on_host(lambda: nftables.delete_table(bridge_plan.FAMILY, bridge_plan.NAME))

    async def _remove(self, name: str) -> None:
        await self._announcer.forget(name)
        await self._keeper(name).remove(name)
        # By hand: a namespace frees its interfaces late.
        if self._namespaces.exists(name):
            await self._namespaces.inside(name, remove_interfaces)
        await self._namespaces.delete(name)
        self._keepers.pop(name, None)
        self._made.pop(name, None)
        _log.info("routing changed", namespace=name, what=["removed"])

    # ---- looking

    async def _look(self, space: Space) -> tuple[frozenset[str], list[str]]:
        """The interfaces in a namespace, and what is wrong inside."""
        if not self._namespaces.exists(space.name):
            return frozenset(), [f"the namespace {space.name} is missing"]
        return await self._keeper(space.name).look(space)

    def _look_at_host(
        self, desired: Routing, spaces: Iterable[Space], present: Mapping[str, frozenset[str]]
    ) -> defaultdict[str, list[str]]:
        """What is wrong on the host, by namespace; "": of all of them."""
        words: defaultdict[str, list[str]] = defaultdict(list)
        with IPRoute() as ip:
            host = HostLinks(ip)
            due = self._bridges.due(_bridge_table(host, desired, spaces))
            words[""] += due.words if due is not None else ()
            for it in spaces:
                for leg in it.legs:
                    try:
                        inner_there = leg.inner in present[it.name]
                        words[it.name] += [change.what for change in leg_changes(host, leg, inner_there=inner_there)]
                    except NetworkFault as fault:
                        words[it.name].append(fault.message)
        return words


def _bridge_table(host: HostLinks, desired: Routing, spaces: Iterable[Space]) -> bridge_plan.Table:
    bridges = {interface.bridge for router in desired.routers for interface in router.interfaces}
    legs = [leg.outer for it in spaces for leg in it.legs]
    return bridge_plan.bridge_table(desired.routers, host.edges(bridges), legs)


def _make_legs(space: Space, present: frozenset[str]) -> list[Change]:
    made: list[Change] = []
    with IPRoute() as ip:
        host = HostLinks(ip)
        for leg in space.legs:
            for change in leg_changes(host, leg, inner_there=leg.inner in present):
                change.make()
                made.append(change)
    return made


def _spaces_with_legs() -> frozenset[str]:
    """The names of namespaces that an interface of this host leads into."""
    with IPRoute() as ip:
        links = all_links(ip)
    routers = {names.router_namespace(owner) for link in links if (owner := link.owner(names.ROUTER_ROLE))}
    return frozenset(
        routers | {names.external_namespace(owner) for link in links if (owner := link.owner(names.EXTERNAL_ROLE))}
    )


def _remove_legs(wanted: Collection[str]) -> None:
    with IPRoute() as ip:
        for name, link in HostLinks(ip).legs().items():
            if name not in wanted:
                delete_link(ip, link)


def _fault(space: Space, error: BaseException) -> NetworkFault:
    if isinstance(error, NetworkFault):
        return error
    return NetworkFault(
        f"{space.name}: {error}", reason="KERNEL_REFUSED", remedy="see the net-agent's log on this host"
    )
