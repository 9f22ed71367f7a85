"""Quotas: what a project may have of each resource. Counters of the log hold usage and limit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from cirra.identity.v1.identity_pb2 import Quota
from conductor.fields import Fields
from core.eventlog.types import CounterAdd, CounterLimit

UNLIMITED = -1

DEFAULTS: Mapping[str, int] = {
    "instances": 10,
    "vcpus": 20,
    "memory_mib": 51200,
    "volumes": 10,
    "gigabytes": 1000,
    "floating_ips": 50,
    "networks": 10,
    "routers": 10,
    "ports": 50,
    "security_groups": 10,
    "security_group_rules": 100,
    "key_pairs": 20,
}
"""Resource → limit of a new project, unless an administrator has set others (`DefaultQuotas`)."""

MAX_LIMIT = 2**53


def scope(resource: str) -> str:
    return f"quota/{resource}"


def resource_of(scope_name: str) -> str:
    """The inverse; empty for a counter that is no quota's."""
    kind, _, resource = scope_name.partition("/")
    return resource if kind == "quota" else ""


def usage(resource: str, project_id: str, delta: int) -> CounterAdd:
    """What an event takes from a project's quota, or gives back."""
    return CounterAdd(scope(resource), project_id, delta)


def limits(project_id: str, quotas: Mapping[str, int]) -> Iterator[CounterLimit]:
    for resource, limit in sorted(quotas.items()):
        yield CounterLimit(scope(resource), project_id, None if limit == UNLIMITED else limit)


def checked(quotas: Iterable[Quota]) -> dict[str, int]:
    """The limits of a request. Raises InvalidArgument for unknown resources, limits below -1, repetitions."""
    fields = Fields()
    found: dict[str, int] = {}
    for index, quota in enumerate(quotas):
        field = f"quotas[{index}]"
        if quota.resource not in DEFAULTS:
            fields.refuse(f"{field}.resource", f"{quota.resource!r} is unknown: give one of {', '.join(DEFAULTS)}")
        elif quota.resource in found:
            fields.refuse(f"{field}.resource", f"{quota.resource} is given twice")
        fields.between(f"{field}.limit", quota.limit, UNLIMITED, MAX_LIMIT)
        found[quota.resource] = quota.limit
    if not found:
        fields.refuse("quotas", "none is given: name a resource and its limit")
    fields.check()
    return found
