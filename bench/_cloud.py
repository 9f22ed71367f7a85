"""A whole cloud for benchmarks: every service its own process under the supervisor, as `make up` starts them.

Hypervisor and network of its one host are simulated; everything else is the product: Postgres with fsync, NATS, mutual
TLS, events, tracing. It lives in a network namespace that goes with the benchmark's process, so that a cloud on this
machine is not disturbed.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cirra.compute.v1.compute_pb2 import Flavor
from cirra.image.v1.image_pb2 import Image
from cirra.network.v1.network_pb2 import Network, Subnet
from cirra_sdk import AsyncClient
from deployment import clouds
from deployment.layout import Layout

_CLONE_NEWNET = 0x40000000  # sched.h; os.unshare came with Python 3.12
_SIMULATED = {
    "CIRRA_DRIVER": "simulated",
    "CIRRA_SIMULATED_VCPUS": "4096",
    "CIRRA_SIMULATED_MEMORY_MIB": "16777216",
    "CIRRA_SIMULATED_DISK_GIB": "1048576",
}
_UNLIMITED = dict.fromkeys(("instances", "vcpus", "memory_mib", "ports", "key_pairs"), 1_000_000_000)
_MIB = 1024**2
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Cloud:
    """`admin`: a client of its gateway, as administrator."""

    layout: Layout
    admin: AsyncClient

    def cpu_ms(self) -> Counter[str]:
        """CPU time that each service has used until now, user and system, of all its processes; in milliseconds."""
        return Counter({name: round(ms, 1) for name, ms in _cpu_ms_by_service().items()})


@dataclass(frozen=True, slots=True)
class Parts:
    """What instances are made of."""

    flavor: Flavor
    image: Image
    network: Network
    subnet: Subnet


@asynccontextmanager
async def running_cloud(settings: Mapping[str, str] | None = None, *, replicas: int = 1) -> AsyncIterator[Cloud]:
    """Up until the block ends. *settings*: further environment variables of its services. Needs root."""
    _leave_network()
    with tempfile.TemporaryDirectory(prefix="cirra-bench-") as folder:
        root = Path(folder) / "cloud"
        environment = {**os.environ, **_SIMULATED, **(settings or {})}
        try:
            await asyncio.to_thread(_deploy, environment, "up", root, "--replicas", str(replicas))
            async with AsyncClient.of(clouds.admin(Layout(root))) as admin:
                yield Cloud(Layout(root), admin)
        finally:
            await asyncio.to_thread(_deploy, environment, "down", root)


async def prepare(admin: AsyncClient, folder: Path, *, cidr: str = "10.0.0.0/16") -> Parts:
    """A flavor, an image and a network with a subnet, and no quota in the way."""
    await admin.quotas.set(await admin.projects.get("admin"), _UNLIMITED)
    disk = folder / "disk.qcow2"
    await asyncio.to_thread(_make_disk, disk)
    image = await admin.images.upload(await admin.images.create("bench"), disk)
    network = await admin.networks.create("bench")
    subnet = await admin.subnets.create("bench", network=network, cidr=cidr)
    flavor = await admin.flavors.create("bench", vcpus=1, memory_mib=64, disk_gib=1)
    return Parts(flavor, image, network, subnet)


def _make_disk(path: Path) -> None:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), str(_MIB)], check=True)


def _deploy(environment: Mapping[str, str], command: str, root: Path, *options: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "deployment", command, "--state-dir", str(root), *options],
        env=dict(environment),
        stdout=subprocess.DEVNULL,
        check=True,
    )


def _leave_network() -> None:
    """This process and those that it starts get a network of their own, with nothing but loopback."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"unshare: {os.strerror(code)}")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def _cpu_ms_by_service() -> Counter[str]:
    """Of all processes in our network namespace but ourselves. A process that has ended is in its parent's figure."""
    ours = os.readlink("/proc/self/ns/net")
    used: Counter[str] = Counter()
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        try:
            if os.readlink(process / "ns/net") != ours:
                continue
            name = _service((process / "cmdline").read_bytes())
            fields = (process / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile, or is no process of ours to look at
        # proc(5): utime, stime, cutime, cstime are fields 14 to 17; the first after the name is field 3.
        used[name] += sum(int(ticks) for ticks in fields[11:15]) * 1000 / _TICKS_PER_S
    return used


def _service(command_line: bytes) -> str:
    arguments = command_line.decode(errors="replace").split("\0")
    for argument in arguments[:3]:
        name = Path(argument.partition(":")[0]).name
        if name.startswith("cirra-"):
            return name.removeprefix("cirra-")
        if name in ("postgres", "nats-server"):
            return name
    return "other"
