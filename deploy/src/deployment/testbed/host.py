"""A host of a testbed from the outside: its power, its cable, what runs in it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

import psutil

from core.errors import CirraError
from deployment.complaints import log_tail
from deployment.layout import Layout
from deployment.libvirtd import PrivateLibvirtd, cgroups
from deployment.status import Phase, Status
from deployment.testbed import wires
from deployment.testbed.boot import DISK, BootSpec
from deployment.testbed.node import Node
from deployment.testbed.plan import PHYSICAL_NETWORK, PROVIDER_DEVICE, HostPlan, Plan
from deployment.testbed.wires import Wires

_BOOT = "deployment.testbed.boot"
_NODE = "deployment.testbed.node"
_BOOT_TIMEOUT_S = 30.0
_READY_TIMEOUT_S = 120.0
_END_TIMEOUT_S = 20.0
_POLL_S = 0.05
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Of the control plane: a host is not told.
_NOT_FOR_HOSTS = ("CIRRA_POSTGRES_DSN", "CIRRA_NATS_KEYS_DIRECTORY", "CIRRA_STATE_DIR", "CIRRA_ADDRESS")


class HostFailed(CirraError):
    """A host does not boot, or its agents don't start; the message ends with what it said."""

    reason = "HOST_FAILED"


class Host:
    """`layout`: its disk, as seen from here; inside, that is /var/lib/cirra."""

    def __init__(self, deployment: Layout, site: Plan, host: HostPlan, cell: str) -> None:
        self.plan = host
        self.name = host.name
        self.layout = Layout(deployment.hosts / host.name)
        self._deployment = deployment
        self._site = site
        self._cell = cell
        self._wires = Wires(site)
        self._run = deployment.run / host.name
        self._console = deployment.log(host.name)

    @property
    def first_process(self) -> int | None:
        """The id of its first process, as this machine counts; None: it is off."""
        try:
            pid = int(self._pid_file.read_text())
            # Stale, the number may be anybody's by now.
            alive = psutil.Process(pid).cmdline()[-2:] == [_BOOT, str(self._spec)]
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
            return None
        return pid if alive else None

    @property
    def is_on(self) -> bool:
        return self.first_process is not None

    @property
    def is_paused(self) -> bool:
        return any(_is_frozen(group) for group in self._groups)

    @property
    def libvirt_uri(self) -> str:
        """For clients on this machine."""
        return PrivateLibvirtd(self.layout.libvirt, Node.load(self.layout.root).host_uuid).uri

    @property
    def inner_libvirt_uri(self) -> str:
        """For clients on the host itself."""
        return PrivateLibvirtd(Layout(DISK).libvirt, Node.load(self.layout.root).host_uuid).uri

    def enter(self, *command: str) -> list[str]:
        """The command that runs *command* on it. Raises HostFailed when it is off."""
        pid = self._powered()
        spaces = ("--mount", "--uts", "--net", "--pid", "--cgroup")
        return ["nsenter", "--target", str(pid), *spaces, "--wdns=/", "--", *command]

    def processes(self) -> dict[int, int]:
        """Its processes: the id inside → the id out here."""
        pid = self.first_process
        if pid is None:
            return {}
        namespace = os.readlink(f"/proc/{pid}/ns/pid")
        return dict(_ids_in(namespace))

    async def start(self, environment: Mapping[str, str], *, restart_agents: bool) -> None:
        """On, and its agents run; a host that is on stays so. *environment*: of whoever deploys, for the agents."""
        self._install(environment)
        if not self.is_on:
            await self.power_on()
            return
        await self._wait_ready(besides=self._restart_agents() if restart_agents else None)

    async def power_on(self) -> None:
        """A boot, under a new boot id; returns when its agents are ready. Nothing happens if it is on. Raises
        HostFailed, WiringFailed."""
        if self.is_on:
            return
        if not (self.layout.root / "node.json").exists():
            raise HostFailed(f"{self.name} was never installed", remedy="make up")
        # What a crash of the machine may have left.
        await self.power_off()
        await self._wires.plug(self.plan)
        await asyncio.to_thread(self._prepare_boot)
        await self._boot()
        await self._wait_ready()

    async def power_off(self) -> None:
        """As a power failure: everything in it is killed at once, and what its kernel knew is lost. Off is success."""
        if (pid := self.first_process) is not None:
            os.kill(pid, signal.SIGKILL)
        _freeze(self._groups, False)
        async with asyncio.timeout(_END_TIMEOUT_S):
            while self.is_on or cgroups.processes(self._groups):  # noqa: ASYNC110 - a control group wakes nobody
                await asyncio.sleep(_POLL_S)
        await self._wires.unplug(self.plan)
        await asyncio.to_thread(self._remove_groups)

    def pause(self) -> None:
        """Everything on it stops where it is; to others it is silent. Again: `resume`. Raises HostFailed: it is off."""
        self._powered()
        _freeze(self._groups, True)

    def resume(self) -> None:
        _freeze(self._groups, False)

    async def cut(self) -> None:
        """Off the underlay: its carrier is gone."""
        await self._wires.set_carrier(self.plan.underlay_port, up=False)

    async def join(self) -> None:
        """On the underlay again."""
        await self._wires.set_carrier(self.plan.underlay_port, up=True)

    @property
    def _spec(self) -> Path:
        return self._run / "boot.json"

    @property
    def _pid_file(self) -> Path:
        return self._run / "first.pid"

    @property
    def _groups_record(self) -> Path:
        return self._run / "cgroups"

    @property
    def _groups(self) -> list[Path]:
        return list(cgroups.recorded(self._groups_record).values())

    def _powered(self) -> int:
        pid = self.first_process
        if pid is None:
            raise HostFailed(f"{self.name} is off", remedy=f"cirra-deploy host power-on {self.name}")
        return pid

    def _install(self, environment: Mapping[str, str]) -> None:
        self.layout.root.mkdir(parents=True, exist_ok=True, mode=0o711)
        try:
            host_uuid = Node.load(self.layout.root).host_uuid
        except FileNotFoundError:
            host_uuid = uuid4()
        told = {name: value for name, value in environment.items() if name not in _NOT_FOR_HOSTS}
        uplinks = {"CIRRA_PHYSICAL_NETWORKS": f"{PHYSICAL_NETWORK}:{PROVIDER_DEVICE}"}
        Node(self.name, host_uuid, self._cell, uplinks | told).save(self.layout.root)

    def _prepare_boot(self) -> None:
        """Files stay; what a kernel forgets, and what was in /run, is gone."""
        node = Node.load(self.layout.root)
        for folder in (self.layout.run, self.layout.libvirt / "run"):
            if folder.exists():
                shutil.rmtree(folder)
        self._run.mkdir(parents=True, exist_ok=True)
        mountinfo, own = Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text()
        groups = cgroups.create(cgroups.hierarchies(mountinfo, own), self.plan.namespace)
        cgroups.record(groups, self._groups_record)
        spec = BootSpec(
            hostname=self.name,
            network=str(wires.path(self.plan.namespace)),
            disk=str(self.layout.root),
            hidden=str(self._deployment.root),
            etc={
                "hostname": f"{self.name}\n",
                "hosts": self._site.hosts_file(),
                "machine-id": f"{node.host_uuid.hex}\n",
            },
            boot_id=f"{uuid4()}\n",
            cgroups=str(self._groups_record),
            pid_file=str(self._pid_file),
            argv=[sys.executable, "-m", _NODE],
            environment={"PATH": node.environment.get("PATH", SYSTEM_PATH)},
        )
        spec.save(self._spec)

    async def _boot(self) -> None:
        with self._console.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                _BOOT,
                str(self._spec),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
            )
        async with asyncio.timeout(_BOOT_TIMEOUT_S):
            code = await process.wait()
        if code != 0:
            raise HostFailed(f"{self.name} does not boot; the end of {self._console}:\n{log_tail(self._console)}")

    async def _wait_ready(self, besides: int | None = None) -> None:
        """*besides*: its supervisor that is to end, and whose word counts no more. Raises HostFailed."""
        try:
            async with asyncio.timeout(_READY_TIMEOUT_S):
                while not self._is_ready(besides):
                    if not self.is_on:
                        raise HostFailed(f"{self.name} went off; see {self._console}")
                    await asyncio.sleep(_POLL_S)
        except TimeoutError as error:
            raise HostFailed(
                f"{self.name} was not ready in {_READY_TIMEOUT_S:g} s; the end of {self._console}:\n"
                f"{log_tail(self._console)}"
            ) from error

    def _is_ready(self, besides: int | None) -> bool:
        status = Status.load(self.layout.status)
        if status is None or status.supervisor_pid == besides:
            return False
        if status.phase is Phase.FAILED:
            raise HostFailed(f"{self.name}: {status.message}")
        return status.phase is Phase.READY

    def _restart_agents(self) -> int | None:
        """The supervisor inside ends with its agents, and the host starts another; the one that ends."""
        status = Status.load(self.layout.status)
        if (pid := self.first_process) is not None:
            os.kill(pid, signal.SIGHUP)
        return None if status is None else status.supervisor_pid

    def _remove_groups(self) -> None:
        cgroups.remove(self._groups)
        self._groups_record.unlink(missing_ok=True)


def _ids_in(namespace: str) -> list[tuple[int, int]]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(folder / "ns" / "pid") != namespace:
                continue
            status = (folder / "status").read_text()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            # Gone meanwhile, or the machine's own.
            continue
        # "NSpid:" lists its ids from ours inwards (proc_pid_status(5)).
        ids = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[1:]
        found.append((int(ids[-1]), int(ids[0])))
    return found


def _freeze(groups: list[Path], frozen: bool) -> None:
    """By cgroup v2, and by v1's freezer where v2 isn't mounted; gone groups are not frozen."""
    for group in groups:
        if (switch := group / "cgroup.freeze").exists():
            switch.write_text("1" if frozen else "0")
        elif (state := group / "freezer.state").exists():
            state.write_text("FROZEN" if frozen else "THAWED")


def _is_frozen(group: Path) -> bool:
    """Or on its way there."""
    switch, state = group / "cgroup.freeze", group / "freezer.state"
    if switch.exists():
        return switch.read_text().strip() == "1"
    return state.exists() and state.read_text().strip() != "THAWED"
