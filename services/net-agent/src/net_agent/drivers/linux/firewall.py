"""What guards taps, as a part of the driver: checks against spoofing and security groups (`guard`), in the kernel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from core.ids import tap_device
from net_agent.drivers.base import Faults, NetworkFault
from net_agent.drivers.linux.dhcp_link import outer_device
from net_agent.drivers.linux.guard import kernel, names
from net_agent.drivers.linux.guard.backends import MAX_MARK, Backend
from net_agent.drivers.linux.guard.bridging import can_show, is_shown_to_ip, show_to_ip
from net_agent.drivers.linux.guard.kernel import Lookout, Sight
from net_agent.drivers.linux.guard.numbers import MAX_ZONE, Numbers
from net_agent.drivers.linux.guard.plan import Plan, groups_in_use, members_of_groups
from net_agent.drivers.linux.guard.sweeper import Sweeper
from net_agent.drivers.linux.namespace import Namespaces
from net_agent.drivers.linux.part import Lacks
from net_agent.drivers.linux.ruleset import Difference
from net_agent.drivers.linux.view import HostView
from net_agent.model import Key, Model, Network, Port
from net_agent.specs.specifications import Specifications
from net_agent.specs.wanted import Scope, Wanted

_KINDS = ("security-group", "group-member")
_NOT_IN_FORCE = "its rules are not in force"


class Firewall:
    """See `Part`. One change at a time: each is made against the tables as they were read just before, and is one
    transaction. A port that leaves keeps its rules until its tap is gone."""

    name = "firewall"

    def __init__(self, namespaces: Namespaces, joint: Callable[[Network], str | None], specs: Specifications) -> None:
        """joint: the interface that joins a network to what is beyond this host."""
        self._namespaces = namespaces
        self._joint = joint
        self._specs = specs
        self._zones = Numbers(specs.folder / "zones.json", MAX_ZONE)
        self._marks = Numbers(specs.folder / "marks.json", MAX_MARK)
        self._sweeper = Sweeper(namespaces)
        self._lookout = Lookout()
        self._backend: Backend | None = None
        self._lock = asyncio.Lock()
        # What was found to need no change: how it was seen, and what was wanted.
        self._right: tuple[Sight, Plan] | None = None
        # Ports that leave, whose taps are gone.
        self._gone: set[Key] = set()

    async def ensure(self, wanted: Wanted, scope: Scope) -> Faults:
        """The taps are guarded, before they exist or since; what is right stays untouched."""
        if not (scope.networks or any(scope.of_kind(kind) for kind in _KINDS)):
            return {}
        backend = await self._chosen()
        if backend.shown_to_ip:
            for network in scope.networks:
                await self._namespaces.on_host(partial(show_to_ip, network.bridge))
        async with self._lock:
            plan = await self._make(wanted)
        await self._sweeper.sweep(plan)
        return {}

    async def observe(self, wanted: Wanted, scope: Scope, view: HostView) -> Lacks:
        if not (scope.networks or any(scope.of_kind(kind) for kind in _KINDS)):
            return {}
        async with self._lock:
            sight = await self._namespaces.on_host(self._lookout.look)
            lacks = dict(_lacks(*await self._due(wanted, sight), scope))
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
            self._gone.add(key)
        elif kind not in ("network", *_KINDS):
            return
        async with self._lock:
            if kind == "network" and (await self._namespaces.on_host(self._lookout.look)).is_empty:
                return
            plan = await self._make(self._specs.wanted, gone)
        if isinstance(last, Port):
            await self._sweeper.forget(plan, last)
        await self._sweeper.sweep(plan)

    async def clear(self) -> None:
        async with self._lock:
            await self._namespaces.on_host(kernel.delete_tables)
            self._zones.forget()
            self._marks.forget()

    # ---- what shall be

    async def _chosen(self) -> Backend:
        if self._backend is None:
            self._backend = await self._namespaces.on_host(kernel.best_backend)
        return self._backend

    async def _make(self, wanted: Wanted, gone: frozenset[str] = frozenset()) -> Plan:
        sight = await self._namespaces.on_host(self._lookout.look)
        plan, due = await self._due(wanted, sight, gone)
        await self._namespaces.on_host(partial(kernel.apply, due))
        return plan

    async def _due(
        self, wanted: Wanted, sight: Sight, gone: frozenset[str] = frozenset()
    ) -> tuple[Plan, Sequence[Difference]]:
        """What is wanted, and what brings the kernel to it. gone: taps that are there no more."""
        plan = await self._planned(wanted, sight, gone)
        if self._right is not None and self._right[0] is sight and self._right[1] == plan:
            return plan, ()
        tables = () if plan.is_empty else (await self._chosen()).tables(plan)
        due = self._spared(sight, plan, gone).due(tables)
        self._right = None if due else (sight, plan)
        return plan, due

    async def _planned(self, wanted: Wanted, sight: Sight, gone: frozenset[str]) -> Plan:
        ports = tuple(self._ports(wanted))
        networks = tuple(wanted.standing())
        strays = sight.taps - {port.device for port in ports} - gone
        groups = groups_in_use(ports, wanted.security_groups)
        devices, uplinks = self._devices(networks)
        network_ids = {network.network_id for network in networks} | {port.network.network_id for port in ports}
        taps = {port.device for port in ports} | strays
        return Plan(
            ports=ports,
            networks=networks,
            groups=groups,
            members=members_of_groups(wanted.group_members.values()),
            devices=devices,
            uplinks=uplinks,
            zones=await asyncio.to_thread(self._zones.of, network_ids),
            marks=await asyncio.to_thread(self._marks.of, taps),
        )

    def _ports(self, wanted: Wanted) -> Iterable[Port]:
        """Those wanted, each with its network's newest description, and those that leave, as long as their taps may be
        there."""
        self._gone.difference_update(("port", port_id) for port_id in wanted.ports)
        for port in wanted.ports.values():
            yield replace(port, network=wanted.network(port.network.network_id) or port.network)
        for key, last in self._specs.leaving.items():
            if isinstance(last, Port) and key not in self._gone:
                yield last

    def _spared(self, sight: Sight, plan: Plan, gone: frozenset[str]) -> Sight:
        """Taps that no record tells of are left as they are: a guest may be behind one."""
        return sight.without(sight.taps - {port.device for port in plan.ports} - gone)

    def _devices(self, networks: Iterable[Network]) -> tuple[Mapping[str, frozenset[str]], frozenset[str]]:
        """Those that are on the networks' bridges beside taps, and the uplinks among them."""
        devices, uplinks = {}, set()
        for network in networks:
            own = {outer_device(network.network_id)}
            try:
                joint = self._joint(network)
            except NetworkFault:
                joint = None  # such a network comes no further than to its bridge
            if joint is not None:
                own.add(joint)
                uplinks.add(joint)
            devices[network.network_id] = frozenset(own)
        return devices, frozenset(uplinks)


def _lacks(plan: Plan, due: Iterable[Difference], scope: Scope) -> Iterable[tuple[Key, str]]:
    for difference in due:
        for network in scope.networks:
            devices = plan.devices.get(network.network_id, frozenset())
            concerned = {names.zone_chain(network.bridge), *names.BASE_CHAINS, *devices}
            if difference.names is None or difference.names & concerned:
                yield ("network", network.network_id), f"{_NOT_IN_FORCE}: {difference.words[0]}"
        for port in scope.ports:
            concerned = {*names.chains_of_port(port.device), *names.names_of_groups(port.security_group_ids)}
            if difference.names is None or difference.names & concerned:
                yield ("port", port.port_id), f"{_NOT_IN_FORCE}: {difference.words[0]}"
        for group_id in scope.of_kind("security-group"):
            if difference.names is None or difference.names & set(names.names_of_groups([group_id])):
                yield ("security-group", group_id), f"{_NOT_IN_FORCE}: {difference.words[0]}"
