"""Weighers: which of the hosts that remain is best. Each answers one score per host, the more the better.

A weigher of one's own is a class with `name` and `score`, under the entry point group `cirra.placement.weighers`.
Scores are normalised to 0…1 over the hosts that remain, times the weigher's multiplier, and summed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cirra.placement.v1 import scheduling_pb2 as scheduling
from placement.hosts.capacity import RESOURCES
from placement.hosts.table import HostTable

Scores = NDArray[np.float64]


class Weigher(Protocol):
    """`name` is shown in the decision ("memory_mib"). It may also have `multiplier`, 1 unless told; a setting goes
    before it. And `applies(request)`: False spares the score, of a weigher that this request is nothing to."""

    name: str

    def score(self, hosts: HostTable, request: scheduling.ClaimRequest) -> Scores:
        """One value per host, which nobody changes. It looks at its arguments alone."""
        ...


class FreeShare:
    """Spreads guests: the host with more left of a resource is better. A negative multiplier stacks them."""

    def __init__(self, resource: str) -> None:
        self.name = resource
        self._column = RESOURCES.index(resource)

    def score(self, hosts: HostTable, request: scheduling.ClaimRequest) -> Scores:
        return hosts.left(self._column)


def vcpus() -> FreeShare:
    return FreeShare("vcpus")


def memory() -> FreeShare:
    return FreeShare("memory_mib")


def disk() -> FreeShare:
    return FreeShare("disk_gib")


class BuildFailures:
    """Avoids hosts where guests could not be built, until one can: nova's BuildFailureWeigher. Outweighs the rest."""

    name = "build_failures"
    multiplier = 10.0

    def score(self, hosts: HostTable, request: scheduling.ClaimRequest) -> Scores:
        return -hosts.build_failures.astype(np.float64)


class SoftAffinity:
    """Where more of the group's members are, for a group with policy soft-affinity."""

    name = "soft_affinity"
    multiplier = 5.0

    def applies(self, request: scheduling.ClaimRequest) -> bool:
        return request.group.policy == scheduling.GROUP_POLICY_SOFT_AFFINITY

    def score(self, hosts: HostTable, request: scheduling.ClaimRequest) -> Scores:
        return _members(hosts, request)


class SoftAntiAffinity:
    """Where fewer of the group's members are, for a group with policy soft-anti-affinity."""

    name = "soft_anti_affinity"
    multiplier = 5.0

    def applies(self, request: scheduling.ClaimRequest) -> bool:
        return request.group.policy == scheduling.GROUP_POLICY_SOFT_ANTI_AFFINITY

    def score(self, hosts: HostTable, request: scheduling.ClaimRequest) -> Scores:
        return -_members(hosts, request)


def _members(hosts: HostTable, request: scheduling.ClaimRequest) -> Scores:
    counts = np.zeros(len(hosts), dtype=np.float64)
    for row, count in hosts.groups.get(request.group.group_id, {}).items():
        counts[row] = count
    return counts


@dataclass(frozen=True, slots=True)
class Weighed:
    """Scores to be normalised to 0…1, times a multiplier. When all are equal they don't tell hosts apart: 0 for each.

    For the order of hosts the scores need only be scaled: what is taken off is the same for all.
    """

    scores: Scores
    low: float
    scale: float

    @classmethod
    def of(cls, scores: Scores, multiplier: float) -> Weighed:
        low, high = float(scores.min()), float(scores.max())
        return cls(scores, low, 0.0 if high == low else multiplier / (high - low))

    def add_to(self, total: Scores) -> None:
        """Adds the scaled scores, each more than it should be by the same amount."""
        if self.scale:
            total += self.scores * self.scale

    def at(self, places: NDArray[np.intp]) -> Scores:
        """The normalised ones of some places."""
        return (self.scores[places] - self.low) * self.scale
