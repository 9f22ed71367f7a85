"""Ends connections that no rule lets pass any more, and those of ports that are gone; all others go on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial

import structlog

from net_agent.drivers.linux.guard import conntrack
from net_agent.drivers.linux.guard.addresses import reachable
from net_agent.drivers.linux.guard.flows import Flow, Sentence, Verdicts, judge
from net_agent.drivers.linux.guard.plan import Plan
from net_agent.drivers.linux.namespace import Namespaces
from net_agent.model import Port, SecurityGroup
from net_agent.model.checker import IpNetwork

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Rules:
    """All that verdicts on one network's connections depend on."""

    ports: tuple[Port, ...]
    groups: tuple[SecurityGroup, ...]
    members: tuple[tuple[str, tuple[IpNetwork, ...]], ...]

    @classmethod
    def of(cls, plan: Plan, network_id: str) -> _Rules:
        ports = tuple(port for port in plan.ports if port.network.network_id == network_id)
        ids = {group_id for port in ports for group_id in port.security_group_ids}
        groups = tuple(group for group_id, group in plan.groups.items() if group_id in ids)
        named = {rule.remote_group_id for group in groups for rule in group.rules if rule.remote_group_id}
        members = tuple((group_id, plan.members[group_id]) for group_id in sorted(named & plan.members.keys()))
        return cls(ports, groups, members)

    @property
    def addresses(self) -> frozenset[IpNetwork]:
        """Of all ports."""
        return frozenset(each for port in self.ports for each in reachable(port))

    @property
    def verdicts(self) -> Verdicts:
        return Verdicts(self.ports, {group.group_id: group for group in self.groups}, dict(self.members))


class Sweeper:
    """Goes through a network's connections when what is let pass, or who has which address, has changed, and when it
    hears of it first."""

    def __init__(self, namespaces: Namespaces) -> None:
        self._namespaces = namespaces
        self._swept: dict[str, _Rules] = {}
        self._plan: Plan | None = None
        self._lock = asyncio.Lock()

    async def sweep(self, plan: Plan) -> None:
        async with self._lock:
            if plan is self._plan:
                return
            known = plan.zones.keys()
            for network_id in self._swept.keys() - known:
                del self._swept[network_id]
            for network_id in sorted(known):
                rules, before = _Rules.of(plan, network_id), self._swept.get(network_id)
                if before != rules:
                    zone = plan.zones[network_id]
                    await self._namespaces.on_host(partial(_sweep, zone, rules))
                    if before is not None and (gone := before.addresses - rules.addresses):
                        await self._namespaces.on_host(partial(_forget, zone, gone, rules.addresses))
                    self._swept[network_id] = rules
            self._plan = plan

    async def forget(self, plan: Plan, port: Port) -> None:
        """The port's connections are nobody's: whoever gets its address next begins anew."""
        zone = plan.zones.get(port.network.network_id)
        if zone is not None:
            there = _Rules.of(plan, port.network.network_id).addresses
            async with self._lock:
                await self._namespaces.on_host(partial(_forget, zone, frozenset(reachable(port)), there))


def _sweep(zone: int, rules: _Rules) -> None:
    flows = conntrack.flows_of(zone)
    if not flows:
        return
    sentence = judge(flows, rules.verdicts)
    conntrack.carry_out(zone, sentence)
    if sentence.end or sentence.delete or sentence.revive:
        counts = {"ended": len(sentence.end), "deleted": len(sentence.delete), "revived": len(sentence.revive)}
        _log.info("connections judged", zone=zone, **counts)


def _forget(zone: int, gone: frozenset[IpNetwork], there: frozenset[IpNetwork]) -> None:
    """Connections with what has gone that are nobody's who is there: of one that has moved to another host, the other
    end may be here."""

    def is_nobodys(flow: Flow) -> bool:
        ends = (flow.source, flow.destination)
        return any(end in each for end in ends for each in gone) and not any(
            end in each for end in ends for each in there
        )

    conntrack.carry_out(zone, Sentence((), (), tuple(flow for flow in conntrack.flows_of(zone) if is_nobodys(flow))))
