"""What a filter is.

A filter of one's own is a class with `name` and `mask`, under the entry point group `cirra.placement.filters`:
see docs/examples/cirra-example-scheduling.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cirra.placement.v1 import scheduling_pb2 as scheduling
from placement.hosts.table import HostTable

Mask = NDArray[np.bool_]


class Filter(Protocol):
    """Which hosts can take a request.

    `name` is told to operators when it removes hosts ("memory_mib"). It may also have:

    `ignores_claims = True`: the mask depends on the hosts themselves and on the request without its id, attempt,
    resources and group; then it is kept until a host changes. `applies(request)`: False spares the mask, of a filter
    that this request is nothing to. `remedy`: what a person can do when it removed the hosts.
    `describe(hosts, request, removed)`: in a few words what the removed ones have, without naming them.
    """

    name: str

    def mask(self, hosts: HostTable, request: scheduling.ClaimRequest) -> Mask:
        """One value per host: True keeps it. It looks at its arguments alone."""
        ...


def all_of(hosts: HostTable) -> Mask:
    """Every host."""
    return np.ones(len(hosts), dtype=np.bool_)


def none_of(hosts: HostTable) -> Mask:
    return np.zeros(len(hosts), dtype=np.bool_)
