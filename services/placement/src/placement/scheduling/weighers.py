"""Weighers: which of the hosts that remain is best. Each answers one score per host, the more the better.

A weigher of one's own is a class with `name` and `score`, under the entry point group `cirra.placement.weighers`.
Scores are normalised to 0…1 over the hosts that remain, times the weigher's multiplier, and summed.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cirra.placement.v1 import scheduling_pb2 as scheduling
from placement.hosts.capacity import RESOURCES
from placement.hosts.view import HostTable

Scores = NDArray[np.float64]


class Weigher(Protocol):
    """`name` is shown in the decision ("memory_mib")."""

    name: str

    def score(self, hosts: HostTable, request: scheduling.ClaimRequest) -> Scores:
        """One value per host. It looks at its arguments alone."""
        ...


class FreeShare:
    """Spreads guests: the host with more left of a resource is better. A negative multiplier stacks them."""

    def __init__(self, resource: str) -> None:
        self.name = resource
        self._column = RESOURCES.index(resource)

    def score(self, hosts: HostTable, request: scheduling.ClaimRequest) -> Scores:
        return hosts.free[:, self._column].astype(np.float64)


def vcpus() -> FreeShare:
    return FreeShare("vcpus")


def memory() -> FreeShare:
    return FreeShare("memory_mib")


def disk() -> FreeShare:
    return FreeShare("disk_gib")


def normalised(scores: Scores) -> Scores:
    """To 0…1; all equal: all 0."""
    if scores.size == 0:
        return scores
    low, high = float(scores.min()), float(scores.max())
    return np.zeros_like(scores) if high == low else (scores - low) / (high - low)
