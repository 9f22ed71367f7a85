"""By what a host has left."""

from __future__ import annotations

from cirra.placement.v1 import scheduling_pb2 as scheduling
from placement.hosts.capacity import RESOURCES, amounts
from placement.hosts.table import HostTable
from placement.scheduling.filters.base import Mask


class Room:
    """It has enough left of one resource."""

    def __init__(self, resource: str, remedy: str) -> None:
        self.name = resource
        self.remedy = remedy
        self._column = RESOURCES.index(resource)

    def mask(self, hosts: HostTable, request: scheduling.ClaimRequest) -> Mask:
        enough: Mask = hosts.left(self._column) >= amounts(request.resources)[self.name]
        return enough

    def describe(self, hosts: HostTable, request: scheduling.ClaimRequest, removed: Mask) -> str:
        """Of all removed hosts together, and the most that one of them has left."""
        used, there = hosts.used[removed, self._column], hosts.capacity[removed, self._column]
        most = max(0, int((there - used).max()))
        asked = amounts(request.resources)[self.name]
        return f"{used.sum()} of {there.sum()} used, at most {most} free, {asked} asked"


def vcpus() -> Room:
    return Room("vcpus", "ask for a flavor with fewer vCPUs; or add hosts, or raise the CPU allocation ratio")


def memory() -> Room:
    return Room("memory_mib", "ask for a flavor with less memory; or free or add hosts")


def disk() -> Room:
    return Room("disk_gib", "ask for a flavor with a smaller disk; or free or add hosts")
