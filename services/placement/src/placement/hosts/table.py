"""All hosts as numpy arrays: what filters and weighers look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy

import numpy as np
from numpy.typing import NDArray

from cirra.placement.v1 import placement_pb2 as public
from cirra.placement.v1 import scheduling_pb2 as scheduling
from placement.hosts.capacity import RESOURCES
from placement.hosts.labels import Labels, LabelSets, grown

_FIRST_ROWS = 64
_ARRAYS = ("_up", "_enabled", "_observing", "_capacity", "_used", "_build_failures")


class HostTable:
    """One row per host, at the same index everywhere. Resources are in the order of RESOURCES.

    `revision` rises whenever anything but a claim changes: what was worked out of the rest may be kept until then.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.inventories: list[public.Inventory] = []
        self.zones = Labels()
        self.virt_types = LabelSets()
        self.physical_networks = LabelSets()
        # By the uids of aggregates.
        self.aggregates = LabelSets()
        self.aggregate_metadata: dict[str, Mapping[str, str]] = {}
        # Server group → row → its members there.
        self.groups: dict[str, dict[int, int]] = {}
        # Row → when, by this process's own monotonic clock, it was told that the host is no longer heard.
        self.silent_since: dict[int, float] = {}
        # The log's.
        self.epoch = 0
        self.revision = 0
        self._index: dict[str, int] = {}
        self._up: NDArray[np.bool_] = np.zeros(_FIRST_ROWS, dtype=np.bool_)
        self._enabled: NDArray[np.bool_] = np.zeros(_FIRST_ROWS, dtype=np.bool_)
        self._observing: NDArray[np.bool_] = np.zeros(_FIRST_ROWS, dtype=np.bool_)
        self._capacity: NDArray[np.int64] = np.zeros((_FIRST_ROWS, 3), dtype=np.int64)
        self._used: NDArray[np.int64] = np.zeros((_FIRST_ROWS, 3), dtype=np.int64)
        # What is left of each resource, a piece of memory each, since it is gone through for every request.
        self._left: list[NDArray[np.float64]] = [np.zeros(_FIRST_ROWS) for _ in RESOURCES]
        self._build_failures: NDArray[np.int64] = np.zeros(_FIRST_ROWS, dtype=np.int64)
        self._attributes: dict[str, tuple[int, Labels]] = {}

    def __len__(self) -> int:
        return len(self.names)

    @property
    def up(self) -> NDArray[np.bool_]:
        """Every agent that guests need is heard; shape (hosts,)."""
        return self._up[: len(self)]

    @property
    def enabled(self) -> NDArray[np.bool_]:
        return self._enabled[: len(self)]

    @property
    def observing(self) -> NDArray[np.bool_]:
        """Observe-only: the epoch was raised, and nobody has accepted yet what differs there; shape (hosts,)."""
        return self._observing[: len(self)]

    @property
    def capacity(self) -> NDArray[np.int64]:
        """Shape (hosts, 3)."""
        return self._capacity[: len(self)]

    @property
    def used(self) -> NDArray[np.int64]:
        """Shape (hosts, 3)."""
        return self._used[: len(self)]

    @property
    def free(self) -> NDArray[np.int64]:
        """What is left; shape (hosts, 3). Negative where capacity has shrunk below what is used."""
        return self.capacity - self.used

    def left(self, column: int) -> NDArray[np.float64]:
        """What is left of one resource, as `free` has it; shape (hosts,). Not to be changed."""
        return self._left[column][: len(self)]

    @property
    def build_failures(self) -> NDArray[np.int64]:
        """Guests that could not be built there since the last one that could; shape (hosts,)."""
        return self._build_failures[: len(self)]

    def find(self, host: str) -> int | None:
        """The host's row."""
        return self._index.get(host)

    def row(self, host: str) -> int:
        """The host's row; a new one for a new host."""
        row = self._index.get(host)
        if row is None:
            row = self._index[host] = len(self)
            for name in _ARRAYS:
                setattr(self, name, grown(getattr(self, name), row + 1))
            self._left = [grown(left, row + 1) for left in self._left]  # type: ignore[misc]
            self.names.append(host)
            self.inventories.append(public.Inventory())
            self._enabled[row] = True
            self.revision += 1
        return row

    def attribute(self, key: str, of: Callable[[public.Inventory], str]) -> Labels:
        """A text that each host's inventory tells, kept until the table's revision changes."""
        known = self._attributes.get(key)
        if known is not None and known[0] == self.revision:
            return known[1]
        labels = Labels()
        for row, inventory in enumerate(self.inventories):
            labels.set(row, of(inventory))
        self._attributes[key] = (self.revision, labels)
        return labels

    def set_inventory(self, row: int, inventory: public.Inventory) -> None:
        self.inventories[row] = inventory
        self.virt_types.set(row, inventory.virt_types)
        self.physical_networks.set(row, inventory.physical_networks)

    def set_capacity(self, row: int, amounts: tuple[int, ...]) -> None:
        """What may be claimed of the host in all."""
        self._capacity[row] = amounts
        for left, amount, used in zip(self._left, amounts, self._used[row], strict=True):
            left[row] = amount - used

    def take(self, row: int, amounts: tuple[int, ...], group: scheduling.GroupRule | None, sign: int = 1) -> None:
        """A claim comes (sign 1) or goes (-1)."""
        used = self._used[row]
        for column, (left, amount) in enumerate(zip(self._left, amounts, strict=True)):
            used[column] += sign * amount
            left[row] -= sign * amount
        if group is None or not group.group_id:
            return
        members = self.groups.setdefault(group.group_id, {})
        members[row] = members.get(row, 0) + sign
        if not members[row]:
            del members[row]
        if not members:
            del self.groups[group.group_id]

    def copy(self) -> HostTable:
        """As it is now, to be changed by claims without changing this one."""
        other = HostTable.__new__(HostTable)
        other.__dict__.update(self.__dict__)
        for name in _ARRAYS:
            setattr(other, name, getattr(self, name).copy())
        other._left = [left.copy() for left in self._left]
        other.names, other.inventories = list(self.names), list(self.inventories)
        other._index, other._attributes = dict(self._index), dict(self._attributes)
        other.groups = deepcopy(self.groups)
        return other
