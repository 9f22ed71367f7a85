"""How long guests wait for their metadata when many boot at once.

    python -m bench.metadata [--guests N]

A whole cloud of separate processes (`bench._cloud`) with two replicas of each service; its hypervisor and network are
simulated, so that 500 instances cost nothing but their records. What is measured is real: a proxy process for each of
ten networks, in a namespace of its own, mutual TLS from there to the replicas, signatures, documents in Postgres,
sealed user data. The guests are simulated: each has its address in its network's namespace, and asks what cloud-init
asks at a boot, one request after the other, each over a new connection. All begin at the same moment, and the proxies
are cold. A request lasts from the first packet of its connection to the last octet of the answer.

Baseline, in the same run: the same guests and the same proxies in front of a server that answers each request with the
same octets, from memory, over the same TLS: what is above it is what it takes to know whose metadata they are.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench._cloud import Cloud, Parts, prepare, running_cloud
from cirra.network.v1.network_pb2 import Network
from core.agent.identity import HostIdentity
from core.embedded.server import LOOPBACK
from core.pki.tls import TlsFiles
from net_agent.drivers.linux.proxy import ProxyIdentity
from net_agent.metadata_proxy.config import LISTEN_ADDRESS
from tests.harness.metadata_guests import GuestNetwork, guest_network

NETWORKS = 10
REPLICAS = 2
IN_FLIGHT = 25
USER_DATA = b"#cloud-config\n" + b"# as long as they often are\n" * 50
# What cloud-init's OpenStack data source asks for.
VERSION = "/openstack/2018-08-27"
PATHS = (
    "/openstack",
    f"{VERSION}/meta_data.json",
    f"{VERSION}/user_data",
    f"{VERSION}/vendor_data.json",
    f"{VERSION}/vendor_data2.json",
    f"{VERSION}/network_data.json",
    "/latest/meta-data/instance-id",
)
PATIENCE_S = 300.0


@dataclass(frozen=True, slots=True)
class Guests:
    """Of one network, by their addresses."""

    network: Network
    addresses: Sequence[str]


@dataclass(frozen=True, slots=True)
class Waits:
    """Milliseconds of each request, of each guest until it had everything, and of CPU, by part; proxies are `other`."""

    requests: Sequence[float]
    guests: Sequence[float]
    cpu_ms: Counter[str]

    def figures(self) -> dict[str, Any]:
        ordered = sorted(self.requests)
        return {
            "p50_ms": round(statistics.median(ordered), 1),
            "p99_ms": round(ordered[int(len(ordered) * 0.99)], 1),
            "max_ms": round(ordered[-1], 1),
            "guest_max_ms": round(max(self.guests), 1),
            "requests": len(ordered),
            "cpu_ms_per_request": {name: round(ms / len(ordered), 2) for name, ms in self.cpu_ms.most_common(5)},
        }


async def boot_guests(cloud: Cloud, parts: Parts, count: int) -> list[Guests]:
    """Instances on each of the networks."""
    await cloud.admin.quotas.set(await cloud.admin.projects.get("admin"), {"networks": 2 * NETWORKS})
    networks = []
    for number in range(NETWORKS):
        network = await cloud.admin.networks.create(f"lan-{number}")
        # The same addresses everywhere, as tenants do.
        await cloud.admin.subnets.create(f"lan-{number}", network=network, cidr="10.0.0.0/20")
        networks.append(network)
    names = iter(range(count))
    found: dict[str, list[str]] = {network.uid: [] for network in networks}

    async def worker() -> None:
        for number in names:
            network = networks[number % NETWORKS]
            operation = await cloud.admin.instances.create(
                f"guest-{number}", flavor=parts.flavor, image=parts.image, networks=[network], user_data=USER_DATA
            )
            await cloud.admin.operations.wait(operation, timeout_s=PATIENCE_S)
            instance = await cloud.admin.instances.get(operation.target)
            found[network.uid].append(instance.nics[0].fixed_ip)

    async with asyncio.TaskGroup() as workers:
        for _ in range(IN_FLIGHT):
            workers.create_task(worker())
    return [Guests(network, found[network.uid]) for network in networks]


class _Answer(asyncio.Protocol):
    """One request over one connection; `done` has the answer once the proxy has closed it."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._received = bytearray()
        self.done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data

    def connection_lost(self, error: Exception | None) -> None:
        if self.done.cancelled():
            return
        if error is None:
            self.done.set_result(bytes(self._received))
        else:
            self.done.set_exception(error)


async def ask(network: GuestNetwork, address: str, path: str) -> float:
    """One request of a guest; how long it took, in milliseconds."""
    request = f"GET {path} HTTP/1.1\r\nHost: {LISTEN_ADDRESS}\r\nConnection: close\r\n\r\n".encode()
    loop = asyncio.get_running_loop()
    made = network.socket_of(address)
    began = time.perf_counter()
    await loop.sock_connect(made, (LISTEN_ADDRESS, 80))
    _, protocol = await loop.create_connection(lambda: _Answer(request), sock=made)
    answer = await protocol.done
    took_ms = (time.perf_counter() - began) * 1000
    assert answer.startswith(b"HTTP/1.1 200 "), answer[:200]
    return took_ms


async def storm(cloud: Cloud, networks: Sequence[tuple[GuestNetwork, Sequence[str]]]) -> Waits:
    """All guests at once."""
    requests: list[float] = []
    guests: list[float] = []

    async def guest(network: GuestNetwork, address: str) -> None:
        began = time.perf_counter()
        for path in PATHS:
            requests.append(await ask(network, address, path))
        guests.append((time.perf_counter() - began) * 1000)

    before, own = cloud.cpu_ms(), time.process_time()
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        for network, addresses in networks:
            for address in addresses:
                tasks.create_task(guest(network, address))
    used = cloud.cpu_ms()
    used.subtract(before)
    used["guests"] = round((time.process_time() - own) * 1000)
    return Waits(requests, guests, used)


async def measure(cloud: Cloud, identity: ProxyIdentity, population: Sequence[Guests], folder: Path) -> dict[str, Any]:
    """With proxies of their own, which have never met the service."""
    async with AsyncExitStack() as stack:
        networks = []
        for guests in population:
            network = await stack.enter_async_context(
                guest_network(folder / guests.network.uid, identity, guests.network.uid, guests.addresses)
            )
            networks.append((network, guests.addresses))
        return (await storm(cloud, networks)).figures()


@asynccontextmanager
async def static_servers(tls: TlsFiles, answer: Path, count: int) -> AsyncIterator[str]:
    """The addresses of servers that answer everything alike, as URLs separated by commas."""
    processes = []
    try:
        urls = []
        for _ in range(count):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "bench._static_server", str(tls.certificate), str(tls.key), str(tls.authority),
                str(answer), stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            processes.append(process)
            assert process.stdout is not None
            urls.append(f"https://{LOOPBACK}:{int(await process.stdout.readline())}")
        yield ",".join(urls)
    finally:
        for process in processes:
            process.terminate()
            await process.wait()


async def run(count: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="cirra-bench-") as name:
        folder = Path(name)
        async with running_cloud(replicas=REPLICAS) as cloud:
            population = await boot_guests(cloud, await prepare(cloud.admin, folder), count)
            host = HostIdentity.load(cloud.layout.host)
            own = host.tls
            identity = ProxyIdentity(
                host.host, host.metadata_url, own.certificate, own.key, own.authority, host.metadata_key
            )
            figures = await measure(cloud, identity, population, folder / "service")
            answer = folder / "answer"
            answer.write_bytes(b"x" * 400)
            async with static_servers(TlsFiles.in_folder(cloud.layout.tls("metadata")), answer, REPLICAS) as urls:
                static = dataclasses.replace(identity, metadata_url=urls)
                baseline = await measure(cloud, static, population, folder / "static")
    return {
        "bench": "metadata",
        "baseline": {"static_server": baseline},
        "figures": {"guests": count, "networks": NETWORKS, **figures},
        "ratio": {key: round(figures[key] / baseline[key], 2) for key in ("p50_ms", "p99_ms", "max_ms")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--guests", type=int, default=500)
    print(json.dumps(asyncio.run(run(parser.parse_args().guests))))


if __name__ == "__main__":
    main()
