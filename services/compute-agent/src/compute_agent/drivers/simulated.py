"""A hypervisor without guests: for tests of the cloud at a scale that no machine here could run.

It is real in all that the agent can see: guests and disks are files in the instance folders, so that they outlive the
agent and not the host's boot, and it says "simulated" in the inventory. Latency and faults are settable:
`<state>/simulated-faults.json` holds a list of rules (`Fault`), read before each operation.

A guest's file has its console in it, and its disk is another name of that file: each may go without the other, and two
files fewer are made (`write_in_place` says what they cost).
"""

from __future__ import annotations

import asyncio
import fnmatch
import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

from cirra.agent.v1.desired_pb2 import (
    DOMAIN_STATE_ABSENT,
    DOMAIN_STATE_CRASHED,
    DOMAIN_STATE_RUNNING,
    DOMAIN_STATE_SHUTOFF,
    DomainSpec,
    DomainState,
    NicSpec,
)
from compute_agent.drivers.base import Disk, DriverInfo, Guest, HostFacts
from compute_agent.drivers.changes import Changes
from compute_agent.errors import domain_foreign, flavor_disk_too_small, virt_type_unsupported
from compute_agent.files import write_atomically, write_in_place
from compute_agent.instances import InstanceFolder, StateFolder
from core.agent.handler import AgentFailure

VIRT_TYPE = "simulated"
FAULTS_FILE = "simulated-faults.json"
_GUEST_FILE = "simulated.json"
_GIB = 1 << 30
# A guest's file is to stay below a page (`write_in_place`).
_CONSOLE_MAX_CHARS = 1024

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong. `match`: a shell pattern for the instance's display name or id. `operation`: "create_disk",
    "define", "start", "stop", "attach_nic", "detach_nic" or "remove". Without a `reason` it only takes `latency_s`
    longer. `times`: how often, since the agent started; 0: always."""

    match: str
    operation: str
    reason: str = ""
    message: str = "injected fault"
    retryable: bool = False
    reschedule: bool = False
    latency_s: float = 0.0
    times: int = 0


@dataclass(frozen=True, slots=True)
class SimulatedGuest:
    """A guest as it is stored; absent while there is but its disk. `process` changes with each start, as a process id
    does; 0: off. `image_cached`: of its disk. `console`: the end of what it wrote."""

    display_name: str
    state: DomainState.ValueType
    boot_id: str
    process: int = 0
    starts: int = 0
    boot: int = 0
    shut_down_by_guest: bool = False
    # The ports that it has been started with, or been given since.
    nics: tuple[str, ...] = ()
    image_cached: bool = False
    console: str = ""


class SimulatedDriver:
    """`HypervisorDriver` for guests of type "simulated". `latency_s`: how long each operation takes."""

    def __init__(
        self,
        *,
        state: StateFolder,
        capacity: HostFacts,
        boot_id: str,
        latency_s: float = 0.0,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.info = DriverInfo(name="simulated", virt_types=(VIRT_TYPE,))
        self._state = state
        self._capacity = capacity
        self._boot_id = boot_id
        self._latency_s = latency_s
        self._sleep = sleep
        self._injected: Counter[Fault] = Counter()
        # As last read or written, and the file's state by then.
        self._remembered: dict[str, tuple[_State, SimulatedGuest]] = {}
        self._faults_file = state.path / FAULTS_FILE
        self._changes = Changes(self.guests)

    @property
    def _foreign(self) -> Path:
        return self._state.path / "simulated-foreign"

    async def open(self) -> None:
        self._changes.note_all()

    async def close(self) -> None:
        return

    async def host(self) -> HostFacts:
        return self._capacity

    async def guests(self) -> set[str]:
        return {name for name in self._state.instance_ids() if self._load(name) is not None}

    async def foreign_guests(self) -> Mapping[str, str]:
        folder = self._foreign
        return {file.name: f"foreign-{file.name}" for file in folder.iterdir()} if folder.is_dir() else {}

    async def observe(self, instance_id: str) -> Guest | None:
        found = self._load(instance_id)
        if found is None:
            return None
        return Guest(instance_id, found.state, found.shut_down_by_guest, found.boot if found.process else 0)

    async def disk(self, instance_id: str) -> Disk | None:
        if _state_of(self._state.instance(instance_id).disk) is None:
            return None
        found = self._stored(instance_id)
        return Disk(image_cached=found is not None and found.image_cached)

    async def create_disk(self, spec: DomainSpec) -> Disk:
        await self._take_time("create_disk", spec.instance_id, spec.display_name)
        if 0 < spec.disk_gib * _GIB < spec.image.virtual_size_bytes:
            raise flavor_disk_too_small(spec.disk_gib, spec.image.virtual_size_bytes)
        cached = _cache_image(self._state, spec.image.sha256)
        folder = self._state.instance(spec.instance_id)
        folder.create()
        self._save(spec.instance_id, replace(self._stored_or_new(spec), image_cached=cached))
        os.link(self._file(spec.instance_id), folder.disk)
        return Disk(image_cached=cached)

    async def define(self, spec: DomainSpec, generation: int) -> None:
        await self._take_time("define", spec.instance_id, spec.display_name)
        if spec.virt_type != VIRT_TYPE:
            raise virt_type_unsupported(spec.virt_type, self.info.virt_types)
        if (self._foreign / spec.instance_id).exists():
            raise domain_foreign(spec.instance_id)
        found = self._stored_or_new(spec)
        state = DOMAIN_STATE_SHUTOFF if found.state == DOMAIN_STATE_ABSENT else found.state
        defined = replace(found, display_name=spec.display_name, state=state)
        if defined != found:
            self._state.instance(spec.instance_id).create()
            self._save(spec.instance_id, defined)

    async def start(self, spec: DomainSpec) -> None:
        await self._take_time("start", spec.instance_id, spec.display_name)
        found = self._load(spec.instance_id)
        assert found is not None, "start comes after define"
        if found.process:
            return
        console = f"{found.console}simulated guest {spec.hostname} booted: {spec.vcpus} vCPU\n"
        running = replace(
            found,
            state=DOMAIN_STATE_RUNNING,
            boot_id=self._boot_id,
            process=found.starts + 1,
            starts=found.starts + 1,
            boot=spec.boot,
            shut_down_by_guest=False,
            nics=tuple(nic.port_id for nic in spec.nics),
            console=console[-_CONSOLE_MAX_CHARS:],
        )
        self._save(spec.instance_id, running)

    async def stop(self, instance_id: str, *, grace_s: float) -> None:
        found = self._load(instance_id)
        if found is None:
            return
        await self._take_time("stop", instance_id, found.display_name)
        self._save(instance_id, replace(found, state=DOMAIN_STATE_SHUTOFF, process=0))

    async def nics(self, instance_id: str) -> frozenset[str]:
        found = self._load(instance_id)
        return frozenset(found.nics) if found is not None and found.process else frozenset()

    async def attach_nic(self, instance_id: str, nic: NicSpec) -> None:
        await self._set_nics("attach_nic", instance_id, lambda present: {*present, nic.port_id})

    async def detach_nic(self, instance_id: str, port_id: str) -> None:
        await self._set_nics("detach_nic", instance_id, lambda present: present - {port_id})

    async def _set_nics(
        self, operation: str, instance_id: str, change: Callable[[frozenset[str]], AbstractSet[str]]
    ) -> None:
        found = self._load(instance_id)
        if found is None or not found.process:
            return
        await self._take_time(operation, instance_id, found.display_name)
        self._save(instance_id, replace(found, nics=tuple(sorted(change(frozenset(found.nics))))))

    async def remove(self, instance_id: str) -> None:
        found = self._load(instance_id)
        if found is not None:
            await self._take_time("remove", instance_id, found.display_name)
        self._state.instance(instance_id).delete()

    async def console_tail(self, instance_id: str, max_bytes: int) -> bytes:
        found = self._load(instance_id)
        written = b"" if found is None else found.console.encode()
        return written[max(0, len(written) - max_bytes) :]

    def changes(self) -> AsyncIterator[str]:
        return aiter(self._changes)

    # What happens to guests without the agent's doing.

    def process(self, instance_id: str) -> int:
        """The guest's process, whoever's it is; 0: none."""
        foreign = self._foreign / instance_id
        if foreign.exists():
            return SimulatedGuest(**json.loads(foreign.read_text())).process
        found = self._load(instance_id)
        return 0 if found is None else found.process

    def crash(self, instance_id: str) -> None:
        self._end(instance_id, DOMAIN_STATE_CRASHED, by_guest=False)

    def shut_down_from_within(self, instance_id: str) -> None:
        self._end(instance_id, DOMAIN_STATE_SHUTOFF, by_guest=True)

    def add_foreign(self, instance_id: str) -> None:
        """Somebody else's guest, running, with that id."""
        guest = SimulatedGuest("", DOMAIN_STATE_RUNNING, self._boot_id, process=1)
        self._foreign.mkdir(exist_ok=True)
        write_atomically(self._foreign / instance_id, json.dumps(asdict(guest)) + "\n")

    def _end(self, instance_id: str, state: DomainState.ValueType, *, by_guest: bool) -> None:
        found = self._load(instance_id)
        assert found is not None
        self._save(instance_id, replace(found, state=state, process=0, shut_down_by_guest=by_guest))
        self._changes.note(instance_id)

    def _load(self, instance_id: str) -> SimulatedGuest | None:
        """The guest as it is now."""
        found = self._stored(instance_id)
        return None if found is None or found.state == DOMAIN_STATE_ABSENT else found

    def _stored_or_new(self, spec: DomainSpec) -> SimulatedGuest:
        return self._stored(spec.instance_id) or SimulatedGuest(spec.display_name, DOMAIN_STATE_ABSENT, self._boot_id)

    def _stored(self, instance_id: str) -> SimulatedGuest | None:
        """What the file says, of now: of an earlier boot none runs."""
        file = self._file(instance_id)
        state = _state_of(file)
        if state is None:
            self._remembered.pop(instance_id, None)
            return None
        remembered = self._remembered.get(instance_id)
        if remembered is not None and remembered[0] == state:
            found = remembered[1]
        else:
            text = file.read_text()
            if not text:  # the machine's crash has taken it
                return None
            found = SimulatedGuest(**json.loads(text))
            self._remembered[instance_id] = state, found
        if found.boot_id == self._boot_id or found.state == DOMAIN_STATE_ABSENT:
            return found
        return replace(found, state=DOMAIN_STATE_SHUTOFF, process=0, shut_down_by_guest=False)

    def _save(self, instance_id: str, guest: SimulatedGuest) -> None:
        file = self._file(instance_id)
        write_in_place(file, json.dumps(asdict(guest)) + "\n")
        state = _state_of(file)
        assert state is not None
        self._remembered[instance_id] = state, guest

    def _file(self, instance_id: str) -> Path:
        return _guest_file(self._state.instance(instance_id))

    async def _take_time(self, operation: str, instance_id: str, display_name: str) -> None:
        """The latency of an operation, and the fault that a rule injects into it."""
        fault = self._fault(operation, instance_id, display_name)
        latency_s = self._latency_s + (fault.latency_s if fault else 0.0)
        if latency_s:
            await self._sleep(latency_s)
        if fault and fault.reason:
            raise AgentFailure(
                fault.message,
                reason=fault.reason,
                remedy=f"remove the rule from {FAULTS_FILE}",
                retryable=fault.retryable,
                reschedule=fault.reschedule,
            )

    def _fault(self, operation: str, instance_id: str, display_name: str) -> Fault | None:
        for fault in _read_faults(self._faults_file):
            named = fnmatch.fnmatchcase(display_name, fault.match) or fnmatch.fnmatchcase(instance_id, fault.match)
            if named and fault.operation == operation and not 0 < fault.times <= self._injected[fault]:
                self._injected[fault] += 1
                return fault
        return None


_State = tuple[int, int, int]
"""Which file, on which file system, as last written (stat(2))."""


def _state_of(file: Path) -> _State | None:
    try:
        found = os.stat(file)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


@lru_cache(maxsize=4096)
def _guest_file(folder: InstanceFolder) -> Path:
    return folder.path / _GUEST_FILE


def _read_faults(file: Path) -> list[Fault]:
    try:
        return [Fault(**rule) for rule in json.loads(file.read_text())]
    except FileNotFoundError:
        return []


def _cache_image(state: StateFolder, sha256: str) -> bool:
    """Puts an empty file for the image into the cache, under a name that no real base has. Was it there?"""
    base = state.image_cache / f"{sha256}.{VIRT_TYPE}"
    cached = base.exists()
    if not cached:
        state.image_cache.mkdir(exist_ok=True)
        base.touch()
    return cached
