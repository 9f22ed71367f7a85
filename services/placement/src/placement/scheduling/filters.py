"""Filters: which hosts can take a request. Each answers one boolean per host.

A filter of one's own is a class with `name` and `mask`, under the entry point group `cirra.placement.filters`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cirra.placement.v1 import scheduling_pb2 as scheduling
from placement.hosts.capacity import RESOURCES, amounts
from placement.hosts.view import HostTable

Mask = NDArray[np.bool_]


class Filter(Protocol):
    """`name` is told to operators when it removes hosts ("memory")."""

    name: str

    def mask(self, hosts: HostTable, request: scheduling.ClaimRequest) -> Mask:
        """One value per host: True keeps it. It looks at its arguments alone."""
        ...


class ComputeUp:
    """Every agent that guests need is heard."""

    name = "compute_up"

    def mask(self, hosts: HostTable, request: scheduling.ClaimRequest) -> Mask:
        return hosts.up[: len(hosts)]


class Enabled:
    """No operator has disabled it."""

    name = "compute_enabled"

    def mask(self, hosts: HostTable, request: scheduling.ClaimRequest) -> Mask:
        return hosts.enabled[: len(hosts)]


class AvailabilityZone:
    """It is in the zone that was asked for, if one was."""

    name = "availability_zone"

    def mask(self, hosts: HostTable, request: scheduling.ClaimRequest) -> Mask:
        wanted = request.availability_zone
        return _each(hosts, (not wanted or zone == wanted for zone in hosts.zones))


class NotExcluded:
    """It is none of the hosts where this request has failed already."""

    name = "not_tried_yet"

    def mask(self, hosts: HostTable, request: scheduling.ClaimRequest) -> Mask:
        excluded = frozenset(request.excluded_hosts)
        return _each(hosts, (name not in excluded for name in hosts.names))


class VirtType:
    """It runs guests at all, and in the way that the flavor or the image asks for (`hw_virt_type`: "kvm")."""

    name = "virt_type"

    def mask(self, hosts: HostTable, request: scheduling.ClaimRequest) -> Mask:
        wanted = wanted_virt_type(request)
        return _each(
            hosts,
            (bool(each.virt_types) and (not wanted or wanted in each.virt_types) for each in hosts.inventories),
        )


class PhysicalNetworks:
    """It is wired to the provider segments of the ports."""

    name = "physical_network"

    def mask(self, hosts: HostTable, request: scheduling.ClaimRequest) -> Mask:
        wanted = frozenset(request.physical_networks)
        return _each(hosts, (wanted <= frozenset(each.physical_networks) for each in hosts.inventories))


class Room:
    """It has enough left of one resource."""

    def __init__(self, resource: str) -> None:
        self.name = resource
        self._column = RESOURCES.index(resource)

    def mask(self, hosts: HostTable, request: scheduling.ClaimRequest) -> Mask:
        enough: Mask = hosts.free[:, self._column] >= amounts(request.resources)[self.name]
        return enough


def vcpus() -> Room:
    return Room("vcpus")


def memory() -> Room:
    return Room("memory_mib")


def disk() -> Room:
    return Room("disk_gib")


def wanted_virt_type(request: scheduling.ClaimRequest) -> str:
    """What the flavor asks for, else what the image does; empty: any."""
    return request.extra_specs.get("hw:virt_type", "") or request.image_properties.get("hw_virt_type", "")


def _each(hosts: HostTable, values: Iterable[bool]) -> Mask:
    return np.fromiter(values, dtype=np.bool_, count=len(hosts))
