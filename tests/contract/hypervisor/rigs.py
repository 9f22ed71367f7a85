"""The hosts that the suite runs on: one with a real libvirtd and real guests, one simulated."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import shutil
import signal
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import libvirt

from cirra.agent.v1.desired_pb2 import (
    DESIRED_POWER_ON,
    DesiredObject,
    DesiredPower,
    DomainObserved,
    DomainSpec,
    ImageRef,
)
from compute_agent.drivers.base import HostFacts, HypervisorDriver
from compute_agent.drivers.libvirt.driver import LibvirtDriver
from compute_agent.drivers.libvirt.xml import domain_name
from compute_agent.drivers.simulated import SimulatedDriver
from compute_agent.handlers.domain import DomainHandler
from compute_agent.images.cache import ImageCache
from compute_agent.instances import StateFolder
from core.ids import uuid7
from deployment.guests import GuestImage
from deployment.libvirtd import PrivateLibvirtd
from tests.contract.hypervisor import key_guest

PATIENCE_S = 120.0
_KEY_ENTER = 28  # linux/input-event-codes.h
# The simulated guest, the tiny image's and the obedient one's.
_UP = re.compile(b"booted|TINY|" + re.escape(key_guest.GREETING))


async def until(condition: Callable[[], object], what: str) -> None:
    """Waits for what happens outside of this process."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110 - nothing here says when
                await asyncio.sleep(0.05)
    except TimeoutError as error:
        raise AssertionError(f"it did not come true: {what}") from error


class Rig(Protocol):
    """A host with an agent. `start_agent` replaces driver and handler by new ones, as after a restart of the agent."""

    state: StateFolder
    image: ImageRef
    virt_type: str
    handler: DomainHandler

    @property
    def driver(self) -> HypervisorDriver: ...
    async def start_agent(self) -> None: ...
    async def close(self) -> None: ...
    def process(self, instance_id: str) -> int:
        """The process that the guest is, whoever's guest; 0: none."""
        ...

    def crash(self, instance_id: str) -> None: ...
    def use_obedient_image(self) -> None:
        """From now on guests are ones that `shut_down_from_within` can be done to."""
        ...

    async def shut_down_from_within(self, instance_id: str) -> None: ...
    def add_foreign(self, instance_id: str) -> None:
        """Runs somebody else's guest with that id."""
        ...


def new_id() -> str:
    return str(uuid7())


def desired(
    rig: Rig,
    instance_id: str,
    generation: int,
    *,
    power: DesiredPower.ValueType = DESIRED_POWER_ON,
    create: bool = False,
    **changes: Any,
) -> DesiredObject:
    """What the cloud wants of an instance; `changes` are fields of the spec."""
    fields: dict[str, Any] = {
        "instance_id": instance_id,
        "display_name": "web-1",
        "hostname": "web-1",
        "project_id": "p1",
        "vcpus": 1,
        "memory_mib": 96,
        "disk_gib": 1,
        "virt_type": rig.virt_type,
        "image": rig.image,
        "power": power,
    }
    spec = DomainSpec(**(fields | changes))
    return DesiredObject(
        host="h1",
        agent="compute",
        kind="domain",
        object_id=instance_id,
        generation=generation,
        create=create,
        domain=spec,
    )


async def make_so(rig: Rig, wish: DesiredObject) -> DomainObserved:
    """As the agent's runtime does with what it has noted nothing of."""
    if wish.create:
        await rig.handler.establish(wish)
    return await rig.handler.ensure(wish)


async def until_up(rig: Rig, instance_id: str) -> None:
    """Waits for a guest to say on its console that it is up."""
    async with asyncio.timeout(PATIENCE_S):
        while not _UP.search(await rig.driver.console_tail(instance_id, 1 << 16)):  # noqa: ASYNC110 - nothing here says when
            await asyncio.sleep(0.05)


def absent(instance_id: str, generation: int) -> DesiredObject:
    return DesiredObject(agent="compute", kind="domain", object_id=instance_id, generation=generation, absent=True)


class LibvirtRig:
    """Real guests under a libvirtd of the tests' own."""

    virt_type = "qemu"

    def __init__(self, libvirtd: PrivateLibvirtd, folder: Path, guest_image: GuestImage) -> None:
        self.libvirtd = libvirtd
        self.downloads = 0
        self.image = ImageRef(
            image_id=new_id(),
            sha256=guest_image.sha256,
            disk_format="qcow2",
            size_bytes=guest_image.size_bytes,
            virtual_size_bytes=guest_image.virtual_size_bytes,
        )
        self._blob = guest_image.path
        self.state = _new_state(folder)
        self._driver: LibvirtDriver | None = None

    @property
    def driver(self) -> LibvirtDriver:
        assert self._driver is not None
        return self._driver

    async def start_agent(self) -> None:
        if self._driver is not None:
            await self._driver.close()
        self.images = ImageCache(self.state.image_cache, self._download)
        self._driver = LibvirtDriver(
            self.libvirtd.uri,
            state=self.state,
            images=self.images,
            virt_types=["qemu"],
            patience_s=PATIENCE_S,
            release_patience_s=PATIENCE_S,
            tap_patience_s=PATIENCE_S,
        )
        self.handler = DomainHandler(self.driver, self.state, shutdown_grace_s=0)
        await self.driver.open()

    async def close(self) -> None:
        await self.driver.close()
        connection = libvirt.open(self.libvirtd.uri)
        for domain in connection.listAllDomains():
            if domain.isActive():
                # libvirt may note the guest's end before the call that ended it does, which then complains.
                with contextlib.suppress(libvirt.libvirtError):
                    domain.destroy()
            if domain.isPersistent():
                domain.undefine()
        connection.close()

    def process(self, instance_id: str) -> int:
        for name in (domain_name(instance_id), f"foreign-{instance_id}"):
            file = self.libvirtd.layout.run / "qemu" / f"{name}.pid"
            if file.exists() and (pid := int(file.read_text())) in self.libvirtd.guest_pids():
                return pid
        return 0

    def crash(self, instance_id: str) -> None:
        os.kill(self.process(instance_id), signal.SIGKILL)

    def use_obedient_image(self) -> None:
        self._blob = self.state.path / "key-guest.raw"
        self._blob.write_bytes(key_guest.IMAGE)
        size = len(key_guest.IMAGE)
        self.image = ImageRef(
            image_id=new_id(),
            sha256=hashlib.sha256(key_guest.IMAGE).hexdigest(),
            disk_format="raw",
            size_bytes=size,
            virtual_size_bytes=size,
        )

    async def shut_down_from_within(self, instance_id: str) -> None:
        log = self.state.instance(instance_id).console_log
        await until(lambda: log.exists() and key_guest.GREETING in log.read_bytes(), "the guest is up")
        connection = libvirt.open(self.libvirtd.uri)
        domain = connection.lookupByUUIDString(instance_id)
        domain.sendKey(libvirt.VIR_KEYCODE_SET_LINUX, 0, [_KEY_ENTER], 1, 0)
        await until(lambda: not domain.isActive(), "the guest has shut down")
        connection.close()

    def add_foreign(self, instance_id: str) -> None:
        connection = libvirt.open(self.libvirtd.uri)
        connection.defineXML(
            textwrap.dedent(f"""\
                <domain type='qemu'><name>foreign-{instance_id}</name><uuid>{instance_id}</uuid>
                <memory unit='MiB'>16</memory><vcpu>1</vcpu><os><type arch='x86_64'>hvm</type></os>
                </domain>""")
        ).create()
        connection.close()

    async def _download(self, image: ImageRef, target: Path) -> None:
        self.downloads += 1
        await asyncio.to_thread(shutil.copyfile, self._blob, target)


class SimulatedRig:
    virt_type = "simulated"
    capacity = HostFacts(
        vcpus=4, memory_mib=8192, disk_gib=100, cpu_arch="x86_64", cpu_model="none", hypervisor_version="simulated"
    )

    def __init__(self, folder: Path) -> None:
        self.image = ImageRef(image_id=new_id(), sha256="0" * 64, disk_format="qcow2", virtual_size_bytes=1 << 20)
        self.state = _new_state(folder)

    async def start_agent(self) -> None:
        self.driver = SimulatedDriver(state=self.state, capacity=self.capacity, boot_id="boot-1")
        self.handler = DomainHandler(self.driver, self.state, shutdown_grace_s=0)
        await self.driver.open()

    async def close(self) -> None:
        await self.driver.close()

    def process(self, instance_id: str) -> int:
        return self.driver.process(instance_id)

    def crash(self, instance_id: str) -> None:
        self.driver.crash(instance_id)

    def use_obedient_image(self) -> None:
        return

    async def shut_down_from_within(self, instance_id: str) -> None:
        self.driver.shut_down_from_within(instance_id)

    def add_foreign(self, instance_id: str) -> None:
        self.driver.add_foreign(instance_id)


def _new_state(folder: Path) -> StateFolder:
    host_directory = folder / "host"
    host_directory.mkdir()
    state = StateFolder(folder / "state", host_directory)
    state.initialise()
    return state
