"""What this host offers to guests, as the cloud is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from cirra.agent.v1.desired_pb2 import InventoryObserved
from compute_agent.drivers.base import HypervisorDriver
from compute_agent.instances import StateFolder


def inventory_source(driver: HypervisorDriver, state: StateFolder) -> Callable[[], Awaitable[InventoryObserved]]:
    """The inventory as it is at each call. Raises `Unavailable` while the hypervisor does not answer."""

    async def inventory() -> InventoryObserved:
        host = await driver.host()
        return InventoryObserved(
            vcpus=host.vcpus,
            memory_mib=host.memory_mib,
            # Without its file system the host has no room for disks, whatever lies below the mount point.
            disk_gib=host.disk_gib if await asyncio.to_thread(state.problem) is None else 0,
            virt_types=driver.info.virt_types,
            cpu_arch=host.cpu_arch,
            cpu_model=host.cpu_model,
            hypervisor_version=host.hypervisor_version,
        )

    return inventory
