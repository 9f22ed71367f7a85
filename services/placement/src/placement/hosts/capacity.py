"""From what a host has to what may be claimed of it: pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cirra.placement.v1 import placement_pb2 as public
from cirra.placement.v1 import scheduling_pb2 as scheduling

RESOURCES = ("vcpus", "memory_mib", "disk_gib")

MAX_RATIO = 1000.0
MAX_AMOUNT = 2**31 - 1


def capacity_scope(resource: str) -> str:
    """The scope of a resource's capacity rows; their key is the host's name."""
    return f"capacity/{resource}"


@dataclass(frozen=True, slots=True)
class Ratios:
    """How many times over each resource is given away; 0: not said."""

    vcpus: float = 0.0
    memory_mib: float = 0.0
    disk_gib: float = 0.0

    @classmethod
    def of_inventory(cls, inventory: public.Inventory) -> Ratios:
        """What an operator has set of this very host."""
        return cls(inventory.vcpu_allocation_ratio, inventory.memory_allocation_ratio, inventory.disk_allocation_ratio)

    @classmethod
    def of_message(cls, message: public.AllocationRatios) -> Ratios:
        return cls(message.vcpus, message.memory_mib, message.disk_gib)

    def message(self) -> public.AllocationRatios:
        return public.AllocationRatios(vcpus=self.vcpus, memory_mib=self.memory_mib, disk_gib=self.disk_gib)

    def or_else(self, other: Ratios) -> Ratios:
        """Where this says nothing, what the other says."""
        return Ratios(*(getattr(self, name) or getattr(other, name) for name in RESOURCES))


DEFAULT_RATIOS = Ratios(vcpus=4.0, memory_mib=1.0, disk_gib=1.0)


def smallest(ratios: Iterable[Ratios]) -> Ratios:
    """Of several aggregates: the smallest that one of them says (nova's `AggregateCoreFilter` does so)."""
    known = list(ratios)
    said = {name: [ratio for each in known if (ratio := getattr(each, name))] for name in RESOURCES}
    return Ratios(**{name: min(values, default=0.0) for name, values in said.items()})


def capacity_of(inventory: public.Inventory, ratios: Ratios | None = None) -> Mapping[str, int]:
    """What may be claimed: (total - reserved) * allocation ratio, never below zero.

    Without ratios: those of the inventory, else the default.
    """
    in_force = ratios if ratios is not None else Ratios.of_inventory(inventory).or_else(DEFAULT_RATIOS)
    totals = (inventory.vcpus, inventory.memory_mib, inventory.disk_gib)
    reserved = (inventory.reserved_vcpus, inventory.reserved_memory_mib, inventory.reserved_disk_gib)
    return {
        resource: min(MAX_AMOUNT, max(0, int((total - kept) * getattr(in_force, resource))))
        for resource, total, kept in zip(RESOURCES, totals, reserved, strict=True)
    }


def amounts(resources: scheduling.Resources) -> Mapping[str, int]:
    """A request's resources by name."""
    return {"vcpus": resources.vcpus, "memory_mib": resources.memory_mib, "disk_gib": resources.disk_gib}
