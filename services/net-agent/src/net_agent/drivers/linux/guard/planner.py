"""What a host's firewall shall be, thought out anew only when something that it follows from has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from net_agent.drivers.base import NetworkFault
from net_agent.drivers.linux.dhcp_link import outer_device
from net_agent.drivers.linux.guard.backends import MAX_MARK
from net_agent.drivers.linux.guard.groups import LIMITS, Limits
from net_agent.drivers.linux.guard.numbers import MAX_ZONE, Numbers
from net_agent.drivers.linux.guard.plan import Plan, groups_in_use, members_of_groups
from net_agent.model import Key, Network, Port
from net_agent.specs.specifications import Specifications

_KINDS = ("port", "network", "security-group", "group-member")


@dataclass(frozen=True, slots=True)
class Planned:
    """`taps`: those that the plan guards. `strays`: taps that no record tells of; they are left as they are, as a guest
    may be behind one."""

    plan: Plan
    taps: frozenset[str]
    strays: frozenset[str]
    # What it follows from, beside the strays.
    basis: tuple[int, frozenset[Key]]


class Planner:
    """Not for two at the same time."""

    def __init__(self, joint: Callable[[Network], str | None], specs: Specifications, limits: Limits = LIMITS) -> None:
        """joint: the interface that joins a network to what is beyond this host. limits: of each port."""
        self._joint = joint
        self._specs = specs
        self._limits = limits
        self._zones = Numbers(specs.folder / "zones.json", MAX_ZONE)
        self._marks = Numbers(specs.folder / "marks.json", MAX_MARK)
        # Ports that leave, whose taps are gone.
        self._gone: frozenset[Key] = frozenset()
        self._last: Planned | None = None

    async def plan(self, seen: frozenset[str], gone: frozenset[str]) -> Planned:
        """The same one, as long as nothing has changed. seen: taps that have rules; gone: those that are no more."""
        wanted = self._specs.wanted
        self._gone = self._gone.intersection(self._specs.leaving)
        basis, last = (self._specs.changes(*_KINDS), self._gone), self._last
        if last is not None and last.basis == basis and seen - gone - last.taps == last.strays:
            return last
        ports = tuple(self._ports())
        networks = tuple(wanted.standing())
        taps = frozenset(port.device for port in ports)
        strays = seen - gone - taps
        devices, uplinks = self._devices(networks)
        members = members_of_groups(wanted.group_members.values())
        groups = groups_in_use(ports, wanted.security_groups)
        network_ids = {network.network_id for network in networks} | {port.network.network_id for port in ports}
        zones, marks = await asyncio.to_thread(lambda: (self._zones.of(network_ids), self._marks.of(taps | strays)))
        plan = Plan(ports, networks, groups, members, devices, uplinks, zones, marks, self._limits)
        if last is not None and last.plan == plan:
            # What was made by it stays good.
            plan = last.plan
        self._last = Planned(plan, taps, strays, basis)
        return self._last

    def tap_is_gone(self, key: Key) -> None:
        """Of a port that leaves: it needs no rules any more."""
        self._gone |= {key}

    def forget(self) -> None:
        """Nothing has a number any more. Blocks."""
        self._last = None
        self._zones.forget()
        self._marks.forget()

    def _ports(self) -> Iterable[Port]:
        """Those wanted, each with its network's newest description, and those that leave, as long as their taps may be
        there."""
        wanted = self._specs.wanted
        for port in wanted.ports.values():
            newest = wanted.network(port.network.network_id) or port.network
            yield port if newest == port.network else replace(port, network=newest)
        for key, last in self._specs.leaving.items():
            if isinstance(last, Port) and key not in self._gone:
                yield last

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
