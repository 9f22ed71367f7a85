"""A filter and a weigher for Cirra's placement, by the metadata of aggregates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cirra.placement.v1.scheduling_pb2 import ClaimRequest
from placement.hosts.table import HostTable

PROJECTS = "filter_project_id"
WEIGHT = "weight"


class ProjectIsolation:
    """A host in an aggregate with `filter_project_id` takes instances of those projects alone; commas divide them."""

    name = "project_isolation"
    # It depends on hosts and on the request's project, not on what is claimed: placement may keep the mask.
    ignores_claims = True
    remedy = "ask an administrator for hosts of this project"

    def mask(self, hosts: HostTable, request: ClaimRequest) -> NDArray[np.bool_]:
        """One value per host: True keeps it."""
        reserved, ours = [], []
        for aggregate, metadata in hosts.aggregate_metadata.items():
            if PROJECTS in metadata:
                reserved.append(aggregate)
                if request.project_id in [project.strip() for project in metadata[PROJECTS].split(",")]:
                    ours.append(aggregate)
        count = len(hosts)
        return ~hosts.aggregates.having_any(count, reserved) | hosts.aggregates.having_any(count, ours)

    def describe(self, hosts: HostTable, request: ClaimRequest, removed: NDArray[np.bool_]) -> str:
        """What NO_VALID_HOST says of those that it removed."""
        return "kept for other projects"


class AggregateWeight:
    """The sum of the `weight` of a host's aggregates; a weight that is no number counts for nothing."""

    name = "aggregate_weight"
    multiplier = 2.0

    def score(self, hosts: HostTable, request: ClaimRequest) -> NDArray[np.float64]:
        """One value per host, the more the better."""
        scores = np.zeros(len(hosts))
        for aggregate, metadata in hosts.aggregate_metadata.items():
            scores += hosts.aggregates.having(aggregate, len(hosts)) * _number(metadata.get(WEIGHT, "0"))
        return scores


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
