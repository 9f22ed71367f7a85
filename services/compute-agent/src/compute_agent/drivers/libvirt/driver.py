"""The libvirt driver: which file, which function, which error; the rest is in the modules beside it."""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import libvirt
import psutil

from cirra.agent.v1.desired_pb2 import DOMAIN_STATE_PAUSED, DOMAIN_STATE_RUNNING, DomainSpec, NicSpec
from compute_agent.drivers.base import Disk, DriverInfo, Guest, HostFacts
from compute_agent.drivers.changes import Changes
from compute_agent.drivers.disk import disk_in
from compute_agent.drivers.libvirt import guest, xml
from compute_agent.drivers.libvirt.connection import Connection
from compute_agent.drivers.libvirt.host import Capabilities, capabilities
from compute_agent.errors import (
    domain_failed,
    flavor_disk_too_small,
    nic_not_released,
    tap_missing,
    virt_type_unsupported,
)
from compute_agent.files import supports_direct_io, write_atomically
from compute_agent.images import qemu_img
from compute_agent.images.cache import ImageCache
from compute_agent.instances import DiskInfo, InstanceFolder, StateFolder

T = TypeVar("T")

_GIB = 1 << 30
_POLL_S = 0.2
# A guest that has no ear for its power button yet, since it boots, is asked again; as often as nova does.
_PRESS_AGAIN_S = 10.0
# The same for a NIC that it shall release.
_ASK_AGAIN_S = 5.0


class LibvirtDriver:
    """`HypervisorDriver` by libvirt and QEMU. `virt_types`: what the probe found this host to run.

    `patience_s` bounds how long a call waits for libvirtd, `tap_patience_s` how long a start waits for its taps,
    `release_patience_s` how long a guest may take to release a NIC.
    """

    def __init__(
        self,
        uri: str,
        *,
        state: StateFolder,
        images: ImageCache,
        virt_types: Sequence[str],
        patience_s: float = 30.0,
        tap_patience_s: float = 30.0,
        release_patience_s: float = 40.0,
    ) -> None:
        self.info = DriverInfo(name="libvirt", virt_types=tuple(virt_types))
        self._state = state
        self._images = images
        self._tap_patience_s = tap_patience_s
        self._release_patience_s = release_patience_s
        self._changes = Changes(self._all_instances)
        self._connection = Connection(
            uri, on_change=self._changes.note, on_connect=self._changes.note_all, patience_s=patience_s
        )

    async def open(self) -> None:
        await self._connection.open()

    async def close(self) -> None:
        await self._images.close()
        await self._connection.close()

    async def host(self) -> HostFacts:
        found = await self._capabilities(self.info.virt_types[0] if self.info.virt_types else "qemu")
        return HostFacts(
            vcpus=os.cpu_count() or 1,
            memory_mib=psutil.virtual_memory().total >> 20,
            disk_gib=_disk_gib(self._state.path),
            cpu_arch=found.arch,
            cpu_model=found.cpu_model,
            hypervisor_version=found.version,
        )

    async def guests(self) -> set[str]:
        return await self._do("list", guest.ours)

    async def foreign_guests(self) -> Mapping[str, str]:
        return await self._do("list", guest.foreign)

    async def observe(self, instance_id: str) -> Guest | None:
        return await self._do("observe", functools.partial(guest.observe, instance_id=instance_id))

    async def disk(self, instance_id: str) -> Disk | None:
        folder = self._state.instance(instance_id)
        return await asyncio.to_thread(disk_in, folder)

    async def create_disk(self, spec: DomainSpec) -> Disk:
        folder = self._state.instance(spec.instance_id)
        size_bytes = _disk_size(spec, spec.image.virtual_size_bytes)
        async with self._images.use(spec.image) as base:
            size_bytes = _disk_size(spec, base.virtual_size_bytes)
            info = DiskInfo(
                format="qcow2",
                base_sha256=spec.image.sha256,
                base_format=base.disk_format,
                image_id=spec.image.image_id,
                size_bytes=size_bytes,
                image_cached=base.cached,
            )
            await asyncio.to_thread(_write_disk_info, folder, info)
            await qemu_img.create_overlay(folder.disk, base.path, base.disk_format, size_bytes)
        return Disk(image_cached=base.cached)

    async def define(self, spec: DomainSpec, generation: int) -> None:
        if spec.virt_type not in self.info.virt_types:
            raise virt_type_unsupported(spec.virt_type, self.info.virt_types)
        folder = self._state.instance(spec.instance_id)
        found = await self._capabilities(spec.virt_type)
        placement = xml.Placement(
            arch=found.arch,
            machine=found.machine,
            emulator=found.emulator,
            disk=folder.disk,
            disk_cache="none" if await self._direct_io() else "writeback",
            console_log=folder.console_log,
        )
        definition = xml.domain_xml(spec, generation, placement)
        await self._do("define", lambda connection: guest.define(connection, spec.instance_id, definition))
        await asyncio.to_thread(_keep_definition, folder, definition)

    async def start(self, spec: DomainSpec) -> None:
        observed = await self.observe(spec.instance_id)
        if observed is not None and observed.state == DOMAIN_STATE_RUNNING:
            return
        for nic in spec.nics:
            await self._wait_for_tap(nic)
        await self._do("start", functools.partial(guest.start, instance_id=spec.instance_id))

    async def stop(self, instance_id: str, *, grace_s: float) -> None:
        deadline = time.monotonic() + grace_s
        press_at = time.monotonic()
        while (now := time.monotonic()) < deadline:
            if now >= press_at:
                await self._do("stop", functools.partial(guest.request_shutdown, instance_id=instance_id))
                press_at = now + _PRESS_AGAIN_S
            if not _is_on(await self.observe(instance_id)):
                return
            await asyncio.sleep(_POLL_S)
        await self._do("stop", functools.partial(guest.power_off, instance_id=instance_id))

    async def nics(self, instance_id: str) -> frozenset[str]:
        return await self._do("inspect", functools.partial(guest.nics, instance_id=instance_id))

    async def attach_nic(self, instance_id: str, nic: NicSpec) -> None:
        await self._wait_for_tap(nic)
        await self._do("attach", functools.partial(guest.attach_nic, instance_id=instance_id, nic=nic))

    async def detach_nic(self, instance_id: str, port_id: str) -> None:
        deadline = time.monotonic() + self._release_patience_s
        ask_at = time.monotonic()
        while port_id in await self.nics(instance_id):
            if (now := time.monotonic()) > deadline:
                raise nic_not_released(port_id, self._release_patience_s)
            if now >= ask_at:
                await self._do("detach", functools.partial(guest.request_nic, instance_id=instance_id, port_id=port_id))
                ask_at = now + _ASK_AGAIN_S
            await asyncio.sleep(_POLL_S)

    async def remove(self, instance_id: str) -> None:
        await self._do("remove", functools.partial(guest.remove, instance_id=instance_id))
        await asyncio.to_thread(self._state.instance(instance_id).delete)

    async def console_tail(self, instance_id: str, max_bytes: int) -> bytes:
        return await asyncio.to_thread(self._state.instance(instance_id).console_tail, max_bytes)

    def changes(self) -> AsyncIterator[str]:
        return aiter(self._changes)

    async def _wait_for_tap(self, nic: NicSpec) -> None:
        """After a boot of the host both agents start: the net-agent may need a moment longer."""
        deadline = time.monotonic() + self._tap_patience_s
        while not _is_interface(nic.device):
            if time.monotonic() > deadline:
                raise tap_missing(nic.device, nic.port_id)
            await asyncio.sleep(_POLL_S)

    async def _all_instances(self) -> set[str]:
        return await self.guests() | await asyncio.to_thread(self._state.instance_ids)

    async def _capabilities(self, virt_type: str) -> Capabilities:
        return await self._do("inspect", functools.partial(capabilities, virt_type=virt_type))

    async def _direct_io(self) -> bool:
        return await asyncio.to_thread(supports_direct_io, self._state.instances)

    async def _do(self, operation: str, function: Callable[[Any], T]) -> T:
        try:
            return await self._connection.call(function)
        except libvirt.libvirtError as error:
            raise domain_failed(operation, str(error)) from error


def _write_disk_info(folder: InstanceFolder, info: DiskInfo) -> None:
    folder.create()
    folder.write_disk_info(info)


def _keep_definition(folder: InstanceFolder, definition: str) -> None:
    """For a person to read; nothing here reads it."""
    if not folder.libvirt_xml.exists() or folder.libvirt_xml.read_text() != definition:
        write_atomically(folder.libvirt_xml, definition)


def _disk_gib(folder: Path) -> int:
    """Of its file system; none where there is no such folder."""
    try:
        return shutil.disk_usage(folder).total // _GIB
    except FileNotFoundError:
        return 0


def _disk_size(spec: DomainSpec, virtual_size_bytes: int) -> int:
    """The disk's size in octets: the flavor's, or the image's if the flavor leaves it open (0)."""
    if spec.disk_gib == 0:
        return virtual_size_bytes
    if spec.disk_gib * _GIB < virtual_size_bytes:
        raise flavor_disk_too_small(spec.disk_gib, virtual_size_bytes)
    return spec.disk_gib * _GIB


def _is_interface(device: str) -> bool:
    try:
        socket.if_nametoindex(device)
    except OSError:
        return False
    return True


def _is_on(observed: Guest | None) -> bool:
    return observed is not None and observed.state in (DOMAIN_STATE_RUNNING, DOMAIN_STATE_PAUSED)
