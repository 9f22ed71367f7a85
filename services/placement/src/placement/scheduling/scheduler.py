"""Filter and weigh: from a request and the table of hosts to the hosts to try, best first, and why. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from random import Random
from typing import Any

import numpy as np

from cirra.placement.v1 import scheduling_pb2 as scheduling
from core.errors import ResourceExhausted
from placement.hosts.view import HostTable
from placement.scheduling.filters import Filter, wanted_virt_type
from placement.scheduling.weighers import Weigher, normalised

FILTERS = "cirra.placement.filters"
WEIGHERS = "cirra.placement.weighers"
BEST = 3
SHOWN_SCORES = 5


class NoValidHost(ResourceExhausted):
    """No host can take the request; `decision` tells how many each filter removed."""

    reason = "NO_VALID_HOST"

    def __init__(self, decision: scheduling.Decision) -> None:
        removed = {each.filter: each.removed for each in decision.filters if each.removed}
        causes = ", ".join(f"{name} removed {count}" for name, count in removed.items())
        super().__init__(
            f"0 of {decision.hosts_considered} hosts can take it" + (f": {causes}" if causes else ""),
            remedy="ask for less, or free, enable or add hosts",
            metadata={f"removed_by_{name}": str(count) for name, count in removed.items()},
        )
        self.decision = decision


@dataclass(frozen=True, slots=True)
class Choice:
    """Hosts to try, in this order; `decision` is what is recorded with the claim."""

    hosts: tuple[str, ...]
    decision: scheduling.Decision


class Scheduler:
    """Applies every filter, then every weigher with its multiplier (1 unless told)."""

    def __init__(
        self,
        filters: Sequence[Filter],
        weighers: Sequence[Weigher],
        *,
        multipliers: Mapping[str, float] | None = None,
        random: Random | None = None,
    ) -> None:
        self._filters = tuple(filters)
        self._weighers = tuple(weighers)
        self._multipliers = dict(multipliers or {})
        self._random = random or Random()

    def choose(self, hosts: HostTable, request: scheduling.ClaimRequest) -> Choice:
        """The hosts that can take the request. At random among the best few first, so that schedulers that decide
        at the same time don't all run into one host. Raises `NoValidHost`."""
        decision = scheduling.Decision(hosts_considered=len(hosts))
        keep = np.ones(len(hosts), dtype=np.bool_)
        for each in self._filters:
            kept = keep & each.mask(hosts, request)
            decision.filters.add(filter=each.name, removed=int(keep.sum() - kept.sum()))
            keep = kept
        rows = np.flatnonzero(keep)
        if rows.size == 0:
            raise NoValidHost(decision)
        parts = {
            each.name: self._multipliers.get(each.name, 1.0) * normalised(each.score(hosts, request)[rows])
            for each in self._weighers
        }
        total = sum(parts.values(), np.zeros(rows.size))
        order = np.argsort(-total, kind="stable")
        for place in order[:SHOWN_SCORES]:
            weights = {name: round(float(part[place]), 4) for name, part in parts.items()}
            decision.scores.add(host=hosts.names[rows[place]], score=round(float(total[place]), 4), weights=weights)
        best, rest = list(order[:BEST]), order[BEST:]
        self._random.shuffle(best)
        return Choice(tuple(hosts.names[rows[place]] for place in (*best, *rest)), decision)


def virt_type_of(hosts: HostTable, host: str, request: scheduling.ClaimRequest) -> str:
    """How the guest will run there: as asked for, else the best that the host has."""
    inventory = hosts.inventories[hosts.names.index(host)]
    return wanted_virt_type(request) or inventory.virt_types[0]


def installed(group: str) -> list[Any]:
    """The filters or weighers of all installed packages, by name."""
    makers: list[tuple[str, Callable[[], Any]]] = [(each.name, each.load()) for each in entry_points(group=group)]
    return [make() for _, make in sorted(makers, key=lambda maker: maker[0])]
