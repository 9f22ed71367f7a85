"""What this host offers to volumes."""

from __future__ import annotations

from collections.abc import Sequence

from block_agent.pools import StorageBackend
from cirra.agent.v1.desired_pb2 import InventoryObserved, StoragePool


def inventory(backends: Sequence[StorageBackend]) -> InventoryObserved:
    """Blocks. Raises FailedPrecondition when a pool is gone."""
    usages = [backend.usage() for backend in backends]
    return InventoryObserved(
        storage_pools=[
            StoragePool(
                name=usage.name, backend=usage.backend, capacity_gib=usage.capacity_gib, free_gib=usage.free_gib
            )
            for usage in usages
        ]
    )
