"""By the metadata of the aggregates that a host is in."""

from __future__ import annotations

from cirra.placement.v1 import scheduling_pb2 as scheduling
from placement.hosts.table import HostTable
from placement.scheduling.filters.base import Mask, all_of
from placement.scheduling.filters.extra_specs import AGGREGATE_SCOPE, Predicate, predicate, scoped


class AggregateExtraSpecs:
    """For each extra spec of the flavor, in the scope `aggregate_instance_extra_specs` or in none, an aggregate of the
    host has that key, with a value that will do: nova's AggregateInstanceExtraSpecsFilter.

    A value with commas is several, of which one is enough.
    """

    name = "aggregate_extra_specs"
    ignores_claims = True
    remedy = "add a host to an aggregate with that metadata, or choose another flavor"

    def mask(self, hosts: HostTable, request: scheduling.ClaimRequest) -> Mask:
        left = all_of(hosts)
        for key, requirement in _asked(request):
            will_do = predicate(requirement)
            aggregates = [
                aggregate
                for aggregate, metadata in hosts.aggregate_metadata.items()
                if key in metadata and _one_will_do(metadata[key], will_do)
            ]
            left &= hosts.aggregates.having_any(len(hosts), aggregates)
        return left

    def describe(self, hosts: HostTable, request: scheduling.ClaimRequest, removed: Mask) -> str:
        return "asked is " + " and ".join(f"{key}: {requirement}" for key, requirement in _asked(request))


def _asked(request: scheduling.ClaimRequest) -> list[tuple[str, str]]:
    return list(scoped(request.extra_specs, AGGREGATE_SCOPE, unscoped_too=True))


def _one_will_do(values: str, will_do: Predicate) -> bool:
    return any(will_do(value.strip()) for value in values.split(","))
