"""What guards taps, as a part of the driver: checks against spoofing and security groups (`guard`), in the kernel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from core.ids import tap_device
from net_agent.drivers.base import Faults
from net_agent.drivers.linux.guard import kernel, names
from net_agent.drivers.linux.guard.backends import Backend
from net_agent.drivers.linux.guard.bridging import can_show, is_shown_to_ip, show_to_ip
from net_agent.drivers.linux.guard.groups import LIMITS, Limits
from net_agent.drivers.linux.guard.kernel import Lookout, Sight
from net_agent.drivers.linux.guard.plan import Plan
from net_agent.drivers.linux.guard.planner import Planned, Planner
from net_agent.drivers.linux.guard.sweeper import Sweeper
from net_agent.drivers.linux.namespace import Namespaces
from net_agent.drivers.linux.part import Lacks
from net_agent.drivers.linux.ruleset import Difference, Table
from net_agent.drivers.linux.view import HostView
from net_agent.model import Key, Model, Network, Port
from net_agent.specs.specifications import Specifications
from net_agent.specs.wanted import Scope, Wanted

_KINDS = ("security-group", "group-member")
_NOT_IN_FORCE = "its rules are not in force"


class Firewall:
    """See `Part`. One change at a time: each is one transaction, made against the tables as they were read, or written,
    last, as long as the kernel's number of its rules says that nobody has changed them since. What is wanted is planned
    once, and drawn as tables once. A port that leaves keeps its rules until its tap is gone."""

    name = "firewall"

    def __init__(
        self,
        namespaces: Namespaces,
        joint: Callable[[Network], str | None],
        specs: Specifications,
        limits: Limits = LIMITS,
    ) -> None:
        """joint: the interface that joins a network to what is beyond this host. limits: of each port."""
        self._namespaces = namespaces
        self._specs = specs
        self._planner = Planner(joint, specs, limits)
        self._sweeper = Sweeper(namespaces)
        self._lookout = Lookout()
        self._backend: Backend | None = None
        self._lock = asyncio.Lock()
        # The tables of the plan that they were last made of.
        self._drawn: tuple[Plan, tuple[Table, ...]] | None = None
        # What was found to need no change: how it was seen, and what was planned.
        self._right: tuple[Sight, Planned] | None = None

    async def ensure(self, wanted: Wanted, scope: Scope) -> Faults:
        """The taps are guarded, before they exist or since; what is right stays untouched."""
        if not (scope.networks or any(scope.of_kind(kind) for kind in _KINDS)):
            return {}
        backend = await self._chosen()
        if backend.shown_to_ip:
            for network in scope.networks:
                await self._namespaces.on_host(partial(show_to_ip, network.bridge))
        async with self._lock:
            plan = await self._make()
        await self._sweeper.sweep(plan)
        return {}

    async def observe(self, wanted: Wanted, scope: Scope, view: HostView) -> Lacks:
        if not (scope.networks or any(scope.of_kind(kind) for kind in _KINDS)):
            return {}
        async with self._lock:
            sight = await self._namespaces.on_host(self._lookout.look)
            planned, due = await self._due(sight)
            lacks = dict(_lacks(planned.plan, due, scope))
        if (await self._chosen()).shown_to_ip:
            lacks |= await self._hidden(scope, view)
        return lacks

    async def _hidden(self, scope: Scope, view: HostView) -> Lacks:
        """Bridges that don't show their frames; one that is not there hides nothing."""
        links = await view.links({network.bridge for network in scope.networks})
        shown = await self._namespaces.on_host(can_show)
        bridges = ((network, links.get(network.bridge)) for network in scope.networks)
        return {
            ("network", network.network_id): "its bridge does not show frames to the hooks of IP"
            for network, link in bridges
            if not shown or (link is not None and not is_shown_to_ip(link))
        }

    async def remove(self, key: Key, last: Model | None) -> None:
        """Nothing of this tap, nor of the network's own interfaces or the group, is left in the tables."""
        kind, object_id = key
        gone: frozenset[str] = frozenset()
        if kind == "port":
            gone = frozenset({last.device if isinstance(last, Port) else tap_device(object_id)})
            self._planner.tap_is_gone(key)
        elif kind not in ("network", *_KINDS):
            return
        async with self._lock:
            if kind == "network" and (await self._namespaces.on_host(self._lookout.look)).is_empty:
                return
            plan = await self._make(gone)
        if isinstance(last, Port):
            await self._sweeper.forget(plan, last)
        await self._sweeper.sweep(plan)

    async def clear(self) -> None:
        async with self._lock:
            await self._namespaces.on_host(kernel.delete_tables)
            await asyncio.to_thread(self._planner.forget)

    # ---- what shall be

    async def _chosen(self) -> Backend:
        if self._backend is None:
            self._backend = await self._namespaces.on_host(kernel.best_backend)
        return self._backend

    async def _make(self, gone: frozenset[str] = frozenset()) -> Plan:
        sight = await self._namespaces.on_host(self._lookout.look)
        planned, due = await self._due(sight, gone)
        if due:
            # What strays are left with is for the next look to find.
            then = sight.next(await self._tables(planned.plan)) if not planned.strays else None
            if await self._namespaces.on_host(partial(self._lookout.write, due, then)) and then is not None:
                self._right = (then, planned)
        return planned.plan

    async def _due(self, sight: Sight, gone: frozenset[str] = frozenset()) -> tuple[Planned, Sequence[Difference]]:
        """What is wanted, and what brings the kernel to it. gone: taps that are there no more."""
        planned = await self._planner.plan(sight.taps, gone)
        if self._right is not None and self._right[0] is sight and self._right[1].plan is planned.plan:
            return planned, ()
        due = sight.due(await self._tables(planned.plan), planned.strays)
        self._right = None if due else (sight, planned)
        return planned, due

    async def _tables(self, plan: Plan) -> tuple[Table, ...]:
        """They are drawn once."""
        if plan.is_empty:
            return ()
        if self._drawn is None or self._drawn[0] is not plan:
            self._drawn = plan, (await self._chosen()).tables(plan)
        return self._drawn[1]


def _lacks(plan: Plan, due: Iterable[Difference], scope: Scope) -> Iterable[tuple[Key, str]]:
    for difference in due:
        for network in scope.networks:
            devices = plan.devices.get(network.network_id, frozenset())
            concerned = {names.zone_chain(network.bridge), *names.BASE_CHAINS}.union(
                *(names.names_of_device(device) for device in devices)
            )
            if difference.names is None or difference.names & concerned:
                yield ("network", network.network_id), f"{_NOT_IN_FORCE}: {difference.words[0]}"
        for port in scope.ports:
            concerned = {*names.chains_of_port(port.device), *names.names_of_groups(port.security_group_ids)}
            if difference.names is None or difference.names & concerned:
                yield ("port", port.port_id), f"{_NOT_IN_FORCE}: {difference.words[0]}"
        for group_id in scope.of_kind("security-group"):
            if difference.names is None or difference.names & set(names.names_of_groups([group_id])):
                yield ("security-group", group_id), f"{_NOT_IN_FORCE}: {difference.words[0]}"
