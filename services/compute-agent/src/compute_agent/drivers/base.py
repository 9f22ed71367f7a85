"""What a hypervisor driver owes the agent. One contract suite holds all drivers to it (tests/contract/hypervisor)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from cirra.agent.v1.desired_pb2 import DomainSpec, DomainState, NicSpec


@dataclass(frozen=True, slots=True)
class DriverInfo:
    """What never changes while the agent runs. `virt_types`: which guests it runs, best first."""

    name: str
    virt_types: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """What the host has, whatever runs on it. `memory_mib` and `disk_gib` are totals."""

    vcpus: int
    memory_mib: int
    disk_gib: int
    cpu_arch: str
    cpu_model: str
    hypervisor_version: str


@dataclass(frozen=True, slots=True)
class Guest:
    """A guest of Cirra's as it was observed. `shut_down_by_guest`: off because the guest wanted it so.

    `boot`: of the spec that it was started with; 0 while it is off.
    """

    instance_id: str
    state: DomainState.ValueType
    shut_down_by_guest: bool = False
    boot: int = 0


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk that is there. `image_cached`: its image was in the host's cache when it was made."""

    image_cached: bool


class HypervisorDriver(Protocol):
    """Guests on this host. Guests are known by their instance's id, a UUID in lower case.

    All operations may be repeated, also after a crash in the middle. They raise `AgentFailure`; when the
    hypervisor itself can't be reached they wait for it first, for a bounded time, and then raise `Unavailable`
    (HYPERVISOR_UNAVAILABLE). No two of them run at once for one guest: the handler sees to it.
    """

    @property
    def info(self) -> DriverInfo: ...

    async def open(self) -> None:
        """Begins to work; touches no guest. The hypervisor need not be there yet."""

    async def close(self) -> None:
        """Ends the work; touches no guest."""

    async def host(self) -> HostFacts:
        """What the host has."""
        ...

    async def guests(self) -> set[str]:
        """The instances that have a guest here, in whatever state. Guests that are not Cirra's are left out."""
        ...

    async def foreign_guests(self) -> Mapping[str, str]:
        """The guests that are not Cirra's: id → name. They are nobody's business but their owner's."""
        ...

    async def observe(self, instance_id: str) -> Guest | None:
        """The guest as it is now; None when there is none, or one that is not Cirra's."""
        ...

    async def disk(self, instance_id: str) -> Disk | None:
        """The instance's disk; None when it is gone. Creates nothing."""
        ...

    async def create_disk(self, spec: DomainSpec) -> Disk:
        """After it the disk is there, complete, with the image's content and the flavor's size.

        Called only when it is absent. On failure there is none.
        """
        ...

    async def define(self, spec: DomainSpec, generation: int) -> None:
        """After it the guest exists as `spec` says, and starts so the next time.

        A guest that runs goes on undisturbed. Never starts one; never creates a disk. Fails with DOMAIN_FOREIGN
        when the id is taken by a guest that is not Cirra's.
        """
        ...

    async def start(self, spec: DomainSpec) -> None:
        """After it the defined guest runs, and is of the boot that it was last defined with. One that runs already is
        not restarted; a paused one is resumed."""
        ...

    async def stop(self, instance_id: str, *, grace_s: float) -> None:
        """After it the guest is off and still defined. It is asked to shut down first, more than once if it takes long,
        and cut off after `grace_s`; with none, it is cut off at once."""
        ...

    async def nics(self, instance_id: str) -> frozenset[str]:
        """The ports that a guest which runs has NICs of; empty while it is off."""
        ...

    async def attach_nic(self, instance_id: str, nic: NicSpec) -> None:
        """After it the guest, if it runs, has the NIC, on its tap, which is waited for. It need not be off for that."""
        ...

    async def detach_nic(self, instance_id: str, port_id: str) -> None:
        """After it the guest, if it runs, has no NIC of the port. It is asked to release it, more than once if it takes
        long. Fails with NIC_NOT_RELEASED when it doesn't."""
        ...

    async def remove(self, instance_id: str) -> None:
        """After it nothing of the guest is left: no process, definition, disk or folder. Absent is success.

        Images in the cache stay; so does a guest that is not Cirra's.
        """
        ...

    async def console_tail(self, instance_id: str, max_bytes: int) -> bytes:
        """The end of what the guest wrote to its serial console; empty when there is nothing."""
        ...

    def changes(self) -> AsyncIterator[str]:
        """The instances whose guest changed by itself or by another's hand, as it happens; for ever.

        One consumer. After a gap, such as a restart of the hypervisor, every guest is named.
        """
        ...
