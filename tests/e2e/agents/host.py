"""This machine as a host that things happen to: processes end, the power fails, a disk is missing."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import psutil

from core.ids import dhcp_namespace, parse_uuid
from core.testing.faults.processes import kill, paused
from deployment.libvirtd import PrivateLibvirtd
from deployment.status import Status
from tests.e2e.cloud import Cloud, eventually
from tests.e2e.machine import checked

AGENTS = ("compute-agent", "net-agent", "block-agent")
# How long the bus keeps a command for this cloud's hosts.
COMMANDS_MAX_AGE_S = 5
# What agents start and leave alone: the beginning of a process's name → what else its command line holds.
_GUEST_SIDE = {"qemu-system": "guest=cirra-", "dnsmasq": "/networks/", "python": "net_agent.metadata_proxy"}


@dataclass(frozen=True, slots=True)
class DataDisk:
    """The state folder's file system: a folder, bound to the mount point that the agents know."""

    top: Path
    content: Path
    mount_point: Path

    @classmethod
    async def make(cls, state_dir: Path) -> DataDisk:
        disk = cls(state_dir, state_dir / "data-disk", state_dir / "state")
        # As systemd has it with every mount: what is mounted later is seen by libvirtd in its own namespace.
        await checked("mount", "--bind", str(disk.top), str(disk.top))
        await checked("mount", "--make-shared", str(disk.top))
        disk.content.mkdir(mode=0o711)
        disk.mount_point.mkdir(mode=0o711)
        await disk.mount()
        return disk

    async def mount(self) -> None:
        await checked("mount", "--bind", str(self.content), str(self.mount_point))

    async def unmount(self) -> None:
        await checked("umount", str(self.mount_point))

    async def remove(self) -> None:
        await checked("umount", "--recursive", str(self.top))


@dataclass(frozen=True, slots=True)
class Host:
    cloud: Cloud
    boot_id_file: Path
    disk: DataDisk

    def guest_side(self) -> dict[int, str]:
        """QEMUs, dnsmasqs and metadata proxies of this host: process id → name."""
        return {
            pid: name
            for pid, name, line in self._processes()
            if any(name.startswith(beginning) and mark in line for beginning, mark in _GUEST_SIDE.items())
        }

    def qemus(self, uid: str) -> list[int]:
        """The processes that are the guest: one, or none."""
        return [
            pid
            for pid, name, line in self._processes()
            if name.startswith("qemu-system") and f"guest=cirra-{uid}" in line
        ]

    async def wired(self) -> list[str]:
        """Names of interfaces that guests or their networks have."""
        return [name for name in await self.cloud.machine.links() if name.startswith(("tap", "brq", "qdhcp"))]

    async def kill(self, *names: str) -> dict[str, int]:
        """SIGKILL to parts, by the supervisor's names; name → the process id that it had."""
        pids = {name: self.cloud.pid(name) for name in names}
        await kill(*pids.values(), tree=False)
        return pids

    async def run_anew(self, former: dict[str, int]) -> None:
        """Returns once all of these have been started again and are ready."""
        await eventually(
            lambda: all(self.cloud.runs_anew(name, pid) for name, pid in former.items()),
            f"{[*former]} run again",
            timeout_s=180,
        )

    def frozen(self, *names: str) -> AbstractContextManager[None]:
        """Parts that answer nobody within the block, as if cut off, and are not started again."""
        return paused(*(self.cloud.pid(name) for name in names), tree=False)

    def unattended(self) -> AbstractContextManager[None]:
        """Within, nothing that ends is started again."""
        status = Status.load(self.cloud.layout.status)
        assert status is not None
        return paused(status.supervisor_pid, tree=False)

    async def reboot(self, boot_id: str, while_down: Callable[[], Awaitable[None]] | None = None) -> None:
        """The power fails and comes back; returns once the agents run again.

        A kernel forgets processes, interfaces, namespaces, rules, and what is in /run; files stay.
        """
        former = {name: self.cloud.pid(name) for name in (*AGENTS, "libvirtd")}
        with self.unattended():
            # The agents first: they would repair what they see fall.
            await kill(*(former[name] for name in AGENTS), tree=False)
            await kill(*self._libvirt_daemons(), *self.guest_side(), tree=False)
            await self._forget_what_a_kernel_forgets()
            if while_down is not None:
                await while_down()
            self.boot_id_file.write_text(boot_id)
        await self.run_anew(former)

    def _libvirt_daemons(self) -> list[int]:
        libvirtd = PrivateLibvirtd(self.cloud.layout.libvirt, self.cloud.config.host_uuid)
        return [int(libvirtd.layout.pid_file(name).read_text()) for name in ("libvirtd", "virtlogd")]

    async def _forget_what_a_kernel_forgets(self) -> None:
        for name in await self.wired():
            # The other half of a veth pair may have gone with the first.
            await self.cloud.machine.run("ip", "link", "del", name)
        for folder in self.cloud.layout.networks.iterdir():
            if parse_uuid(folder.name):
                await self.cloud.machine.run("ip", "netns", "del", dhcp_namespace(folder.name))
        await self.cloud.machine.checked("nft", "flush", "ruleset")
        for entry in (self.cloud.layout.libvirt / "run").iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    def _processes(self) -> Iterator[tuple[int, str, str]]:
        """(id, name, command line) of all that name this cloud's folder there."""
        for process in psutil.process_iter(["name", "cmdline"]):
            line = " ".join(process.info["cmdline"] or ())
            if str(self.cloud.layout.root) in line:
                yield process.pid, process.info["name"], line
