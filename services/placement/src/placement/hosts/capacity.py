"""From what a host has to what may be claimed of it: pure."""

from __future__ import annotations

from collections.abc import Mapping

from cirra.placement.v1 import placement_pb2 as public
from cirra.placement.v1 import scheduling_pb2 as scheduling

RESOURCES = ("vcpus", "memory_mib", "disk_gib")

DEFAULT_RATIOS = {"vcpus": 4.0, "memory_mib": 1.0, "disk_gib": 1.0}


def capacity_scope(resource: str) -> str:
    """The scope of a resource's capacity rows; their key is the host's name."""
    return f"capacity/{resource}"


def capacity_of(inventory: public.Inventory) -> Mapping[str, int]:
    """What may be claimed: (total - reserved) * allocation ratio, never below zero; a ratio of 0 is the default."""
    ratios = (inventory.vcpu_allocation_ratio, inventory.memory_allocation_ratio, inventory.disk_allocation_ratio)
    totals = (inventory.vcpus, inventory.memory_mib, inventory.disk_gib)
    reserved = (inventory.reserved_vcpus, inventory.reserved_memory_mib, inventory.reserved_disk_gib)
    return {
        resource: max(0, int((total - kept) * (ratio or DEFAULT_RATIOS[resource])))
        for resource, total, kept, ratio in zip(RESOURCES, totals, reserved, ratios, strict=True)
    }


def amounts(resources: scheduling.Resources) -> Mapping[str, int]:
    """A request's resources by name."""
    return {resource: getattr(resources, resource) for resource in RESOURCES}
