"""All hosts as numpy arrays, folded from the log. A hint: the capacity rows of the log decide."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cirra.placement.v1 import events_pb2 as pb
from cirra.placement.v1 import placement_pb2 as public
from core.eventlog.types import RecordedEvent
from placement.hosts.capacity import RESOURCES, amounts, capacity_of

_FIRST_ROWS = 64


@dataclass(slots=True)
class HostTable:
    """One row per host, at the same index in every array. `free` may be negative after capacity has shrunk."""

    names: list[str] = field(default_factory=list)
    zones: list[str] = field(default_factory=list)
    inventories: list[public.Inventory] = field(default_factory=list)
    up: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(_FIRST_ROWS, dtype=np.bool_))
    enabled: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(_FIRST_ROWS, dtype=np.bool_))
    # (host, resource) in the order of RESOURCES.
    capacity: NDArray[np.int64] = field(default_factory=lambda: np.zeros((_FIRST_ROWS, 3), dtype=np.int64))
    used: NDArray[np.int64] = field(default_factory=lambda: np.zeros((_FIRST_ROWS, 3), dtype=np.int64))

    def __len__(self) -> int:
        return len(self.names)

    @property
    def free(self) -> NDArray[np.int64]:
        """What is left per host and resource; shape (hosts, 3)."""
        count = len(self)
        return self.capacity[:count] - self.used[:count]

    def grow(self) -> None:
        """Room for twice as many rows."""
        for name in ("up", "enabled", "capacity", "used"):
            array = getattr(self, name)
            setattr(self, name, np.concatenate([array, np.zeros_like(array)]))


class HostView:
    """Folds the events of hosts and claims. `position`: how far it is.

    A claim that this replica has just made is applied at once (`expect`) and not again when its event comes by.
    """

    def __init__(self) -> None:
        self.position = 0
        self.table = HostTable()
        self._index: dict[str, int] = {}
        # (claim, attempt) → host and amounts
        self._held: dict[tuple[str, int], tuple[str, tuple[int, ...]]] = {}

    def expect(self, claim_id: str, made: pb.ClaimMade) -> None:
        """Takes in a claim of our own before its event has come by."""
        self._hold(claim_id, made)

    def apply(self, event: RecordedEvent) -> None:
        """Takes in the next event."""
        claim_id = str(event.aggregate_id)
        match event.type.removeprefix("cirra.placement.v1."):
            case "HostEnrolled":
                enrolled = pb.HostEnrolled.FromString(event.data)
                self.table.zones[self._row(enrolled.host)] = enrolled.availability_zone
            case "HostInventoryChanged":
                self._inventory(pb.HostInventoryChanged.FromString(event.data))
            case "HostEnabled":
                self.table.enabled[self._row(pb.HostEnabled.FromString(event.data).host)] = True
            case "HostDisabled":
                self.table.enabled[self._row(pb.HostDisabled.FromString(event.data).host)] = False
            case "HostUp":
                self.table.up[self._row(pb.HostUp.FromString(event.data).host)] = True
            case "HostSuspected":
                self.table.up[self._row(pb.HostSuspected.FromString(event.data).host)] = False
            case "HostDown":
                self.table.up[self._row(pb.HostDown.FromString(event.data).host)] = False
            case "ClaimMade":
                self._hold(claim_id, pb.ClaimMade.FromString(event.data))
            case "ClaimReleased":
                self._release(claim_id, pb.ClaimReleased.FromString(event.data).attempt)
        self.position = event.position

    def _inventory(self, event: pb.HostInventoryChanged) -> None:
        row = self._row(event.host)
        capacity = capacity_of(event.inventory)
        self.table.inventories[row] = event.inventory
        self.table.capacity[row] = [capacity[resource] for resource in RESOURCES]

    def _hold(self, claim_id: str, made: pb.ClaimMade) -> None:
        self._release(claim_id, made.attempt)
        held = tuple(amounts(made.resources).values())
        self._held[claim_id, made.attempt] = (made.host, held)
        self.table.used[self._row(made.host)] += held

    def _release(self, claim_id: str, attempt: int) -> None:
        found = self._held.pop((claim_id, attempt), None)
        if found is not None:
            host, held = found
            self.table.used[self._row(host)] -= held

    def _row(self, host: str) -> int:
        row = self._index.get(host)
        if row is None:
            row = len(self.table)
            if row == len(self.table.up):
                self.table.grow()
            self.table.names.append(host)
            self.table.zones.append("")
            self.table.inventories.append(public.Inventory())
            self.table.enabled[row] = True
            self._index[host] = row
        return row
