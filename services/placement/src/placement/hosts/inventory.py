"""What the agents of a host report of it: its inventory, merged, and what on it is nobody's, or not as it shall be."""

from __future__ import annotations

from cirra.agent.v1 import desired_pb2 as agent
from cirra.placement.v1 import placement_pb2 as public
from core.bus import Poison, Received
from core.context import acting
from core.ids import host_aggregate_id
from core.repository import Repository
from placement.hosts.capacity import Ratios
from placement.hosts.host import Host

FACTS = ("InventoryObserved", "OrphansObserved", "FaultsObserved")


class HostReports:
    """Handles the reports with these facts; the conductor takes all others. `default`: the cloud's ratios."""

    def __init__(self, repository: Repository, *, default: Ratios) -> None:
        self._repository = repository
        self._default = default

    async def __call__(self, received: Received) -> None:
        """Raises NotFound for a host that is being enrolled: the report is delivered again."""
        report = received.decode(agent.Report)
        _, _, host, agent_name, *_ = received.subject.split(".")
        if (report.host, report.agent) != (host, agent_name):
            raise Poison(f"a report of {host}'s {agent_name} agent speaks for another")

        def decide(it: Host) -> None:
            if report.HasField("orphans"):
                it.set_orphans(agent_name, [_orphan(agent_name, orphan) for orphan in report.orphans.orphans])
            elif report.HasField("faults"):
                it.set_faults(agent_name, [_fault(agent_name, fault) for fault in report.faults.faults])
            else:
                it.set_inventory(merged(it.inventory, agent_name, report.inventory), self._default)

        with acting(actor=f"host/{host}/{agent_name}"):
            await self._repository.change(Host, host_aggregate_id(host), decide)


def _orphan(agent_name: str, seen: agent.Orphan) -> public.HostOrphan:
    return public.HostOrphan(agent=agent_name, kind=seen.kind, object_id=seen.object_id, description=seen.description)


def _fault(agent_name: str, seen: agent.ObjectFault) -> public.HostFault:
    return public.HostFault(
        agent=agent_name,
        kind=seen.kind,
        object_id=seen.object_id,
        reason=seen.failure.reason,
        message=seen.failure.message,
        remedy=seen.failure.remedy,
    )


def merged(known: public.Inventory, agent_name: str, seen: agent.InventoryObserved) -> public.Inventory:
    """The inventory with what this agent knows best: compute the machine, net its segments. What an operator set
    (ratios, reserved amounts) stays."""
    inventory = public.Inventory()
    inventory.CopyFrom(known)
    if agent_name == "compute":
        for name in ("vcpus", "memory_mib", "disk_gib", "cpu_arch", "cpu_model", "hypervisor_version"):
            setattr(inventory, name, getattr(seen, name))
        inventory.virt_types[:] = seen.virt_types
    elif agent_name == "net":
        inventory.physical_networks[:] = sorted(seen.physical_networks)
        inventory.tunnel_address = seen.tunnel_address
    for key, value in seen.traits.items():
        inventory.traits[f"{agent_name}.{key}"] = value
    for pool in seen.storage_pools:
        inventory.traits[f"storage.{pool.name}"] = f"{pool.backend} {pool.capacity_gib} GiB"
    return inventory
