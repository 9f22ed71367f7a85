"""Domains as desired: observe, compare, act, observe again (docs/adr/0007-agents.md)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import structlog

from cirra.agent.v1.desired_pb2 import (
    DESIRED_POWER_ON,
    DOMAIN_STATE_ABSENT,
    DOMAIN_STATE_PAUSED,
    DOMAIN_STATE_RUNNING,
    Answer,
    DesiredObject,
    DomainObserved,
    DomainSpec,
    Orphan,
    Question,
)
from compute_agent.drivers.base import Disk, Guest, HypervisorDriver
from compute_agent.errors import disk_missing, disk_out_of_reach, storage_failed
from compute_agent.handlers.power import PowerRecord
from compute_agent.instances import StateFolder
from core.agent.hand import Hand
from core.agent.handler import AgentFailure
from core.agent.locks import KeyedLocks
from core.errors import CirraError, Poison

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Observation:
    """Facts about a domain that was made as `generation` desired."""

    generation: int
    facts: DomainObserved


class DomainHandler:
    """`core.agent.Handler` for objects of kind "domain". `shutdown_grace_s`: see `HypervisorDriver.stop`."""

    kind = "domain"

    def __init__(self, driver: HypervisorDriver, state: StateFolder, *, shutdown_grace_s: float = 30.0) -> None:
        self._driver = driver
        self._state = state
        self._shutdown_grace_s = shutdown_grace_s
        # The runtime acts on an object one at a time; looking at it after an event waits for that to end.
        self._locks = KeyedLocks()
        self._hand = Hand("power records")
        # The generations that are noted as on (`PowerRecord`), by this process.
        self._noted_on: dict[str, int] = {}
        # Domains that are as desired, and by which generation.
        self._settled: dict[str, int] = {}

    async def establish(self, desired: DesiredObject) -> None:
        """The instance has a disk: the one that is there, or one made of its image. Raises `AgentFailure`."""
        spec = _spec_of(desired)
        async with self._acting(desired.object_id):
            if await self._driver.disk(spec.instance_id) is not None:
                return
            # A guest that is there without its file has lost it for good: a new one would hide that.
            if await self._driver.observe(spec.instance_id) is not None:
                raise self._disk_missing(spec.instance_id)
            disk = await self._driver.create_disk(spec)
            log.info("disk created", instance_id=spec.instance_id, image_cached=disk.image_cached)

    async def ensure(self, desired: DesiredObject) -> DomainObserved:
        """The domain is defined as its spec says, on its disk, and on or off as desired.

        A guest that runs is not restarted, whatever has changed, unless it is to be booted anew: which boot runs is
        told by the guest itself, so that a command that comes twice, or after a crash, boots it once. One that shut
        itself down stays down until a newer generation wants it on. Raises `AgentFailure`.
        """
        spec = _spec_of(desired)
        try:
            async with self._acting(desired.object_id):
                if await self._driver.disk(spec.instance_id) is None:
                    raise self._disk_missing(spec.instance_id)
                await self._driver.define(spec, desired.generation)
                await self._ensure_nics(spec)
                await self._ensure_power(spec, desired.generation)
                self._settled[desired.object_id] = desired.generation
                return await self._look(desired.object_id)
        except AgentFailure as failure:
            failure.facts = await self._guest_in_spite_of(failure, desired.object_id)
            raise

    async def remove(self, desired: DesiredObject) -> DomainObserved:
        """Nothing of the instance is left on this host; images in the cache stay. Raises `AgentFailure`."""
        async with self._acting(desired.object_id):
            self._noted_on.pop(desired.object_id, None)
            await self._driver.remove(desired.object_id)
            return await self._look(desired.object_id)

    async def look(self, object_id: str) -> DomainObserved:
        """The guest and its disk as they are now; touches neither. Raises `AgentFailure`."""
        async with self._locks.held(object_id):
            await self._state.prove()
            return await self._look(object_id)

    async def known_objects(self) -> set[str]:
        """All instances of which this host has a guest or a folder."""
        return await self._driver.guests() | await asyncio.to_thread(self._state.instance_ids)

    async def strangers(self) -> Sequence[Orphan]:
        """Guests of others': they use what the cloud believes to be free."""
        return [
            Orphan(kind=self.kind, object_id=guest_id, description=f"guest {name}, not made by Cirra")
            for guest_id, name in (await self._driver.foreign_guests()).items()
        ]

    async def observe(self, instance_id: str) -> Observation | None:
        """What has become of a domain since it was made as desired; notes when it has shut itself down.

        None for what this process has not made so, or failed to: then the answer to the wish is what is said.
        """
        async with self._locks.held(instance_id):
            generation = self._settled.get(instance_id)
            if generation is None:
                return None
            guest = await self._driver.observe(instance_id)
            if guest is not None and guest.shut_down_by_guest:
                await self._note_shutdown_by_guest(instance_id)
            return Observation(generation, _facts(guest, await self._driver.disk(instance_id)))

    async def read_console(self, question: Question) -> Answer:
        """The end of what a guest wrote; empty when it wrote nothing. Raises `AgentFailure`."""
        about = question.console
        await self._state.prove()
        try:
            return Answer(console=await self._driver.console_tail(about.instance_id, about.max_bytes))
        except OSError as error:
            raise storage_failed(error) from error

    @contextlib.asynccontextmanager
    async def _acting(self, instance_id: str) -> AsyncIterator[None]:
        """An action on one instance, alone, in the right state folder: else a disk that is merely not mounted
        would be taken for missing or removed."""
        async with self._locks.held(instance_id):
            self._settled.pop(instance_id, None)
            try:
                await self._prove_ground(instance_id)
                yield
            except OSError as error:
                raise storage_failed(error) from error

    async def _ensure_nics(self, spec: DomainSpec) -> None:
        """A guest that runs, and shall, has the NICs of its definition; one that is off gets them when it starts."""
        guest = await self._driver.observe(spec.instance_id)
        if spec.power != DESIRED_POWER_ON or not _is_on(guest):
            return
        present = await self._driver.nics(spec.instance_id)
        wanted = {nic.port_id: nic for nic in spec.nics}
        for port_id in sorted(present - wanted.keys()):
            await self._driver.detach_nic(spec.instance_id, port_id)
            log.info("NIC detached", instance_id=spec.instance_id, port_id=port_id)
        for port_id in sorted(wanted.keys() - present):
            await self._driver.attach_nic(spec.instance_id, wanted[port_id])
            log.info("NIC attached", instance_id=spec.instance_id, port_id=port_id)

    async def _ensure_power(self, spec: DomainSpec, generation: int) -> None:
        guest = await self._driver.observe(spec.instance_id)
        if spec.power != DESIRED_POWER_ON:
            if _is_on(guest):
                await self._driver.stop(spec.instance_id, grace_s=self._shutdown_grace_s)
            return
        if guest is not None and _is_on(guest) and guest.boot < spec.boot:
            await self._driver.stop(spec.instance_id, grace_s=0 if spec.hard_boot else self._shutdown_grace_s)
            log.info("guest ended, to boot anew", instance_id=spec.instance_id, boot=spec.boot, hard=spec.hard_boot)
            guest = None
        if guest is not None and guest.shut_down_by_guest:
            await self._note_shutdown_by_guest(spec.instance_id)
        if guest is None or guest.state != DOMAIN_STATE_RUNNING:
            # Noted before, so that a crash in between leaves the note; but what ended before must not be taken for the
            # end of what is to be started.
            note = guest is None or not guest.shut_down_by_guest
            if not await self._may_start(spec.instance_id, generation, note=note):
                return
            await self._driver.start(spec)
            log.info("guest started", instance_id=spec.instance_id, generation=generation)
        await self._note_on(spec.instance_id, generation)

    async def _may_start(self, instance_id: str, generation: int, *, note: bool) -> bool:
        may = await self._hand.do(self._power(instance_id).may_start, generation, note=note)
        if may and note:
            self._noted_on[instance_id] = generation
        return may

    async def _note_on(self, instance_id: str, generation: int) -> None:
        if self._noted_on.get(instance_id) != generation:
            await self._hand.do(self._power(instance_id).note_on, generation)
            self._noted_on[instance_id] = generation

    async def _note_shutdown_by_guest(self, instance_id: str) -> None:
        self._noted_on.pop(instance_id, None)
        await self._hand.do(self._power(instance_id).note_shutdown_by_guest)

    async def _prove_ground(self, instance_id: str) -> None:
        try:
            await self._state.prove()
        except AgentFailure as problem:
            raise disk_out_of_reach(self._state.instance(instance_id).disk, problem) from problem

    async def _look(self, instance_id: str) -> DomainObserved:
        return _facts(await self._driver.observe(instance_id), await self._driver.disk(instance_id))

    async def _guest_in_spite_of(self, failure: AgentFailure, instance_id: str) -> DomainObserved | None:
        """Whether it runs, although it is not as desired; None when there is none, or nobody can tell."""
        try:
            guest = await self._driver.observe(instance_id)
            return None if guest is None else _facts(guest, await self._driver.disk(instance_id))
        except CirraError as error:
            log.warning("guest could not be observed", instance_id=instance_id, error=str(error), after=failure.reason)
            return None

    def _disk_missing(self, instance_id: str) -> AgentFailure:
        return disk_missing(self._state.instance(instance_id).disk)

    def _power(self, instance_id: str) -> PowerRecord:
        return PowerRecord(self._state.instance(instance_id).path)


def _spec_of(desired: DesiredObject) -> DomainSpec:
    if desired.domain.instance_id != desired.object_id:
        raise Poison(f"the spec of domain {desired.object_id} is for instance {desired.domain.instance_id!r}")
    return desired.domain


def _facts(guest: Guest | None, disk: Disk | None) -> DomainObserved:
    return DomainObserved(
        state=DOMAIN_STATE_ABSENT if guest is None else guest.state,
        image_cached=disk is not None and disk.image_cached,
        disk_present=disk is not None,
    )


def _is_on(guest: Guest | None) -> bool:
    return guest is not None and guest.state in (DOMAIN_STATE_RUNNING, DOMAIN_STATE_PAUSED)
