"""How long guests wait for their metadata when many boot at once.

    python -m bench.metadata [--guests N]

A whole cloud of separate processes (`bench._cloud`) with two replicas of each service; its hypervisor and network are
simulated, so that 500 instances cost nothing but their records. What is measured is real: a proxy process for each of
ten networks, in a namespace of its own, mutual TLS from there to the replicas, signatures, documents in Postgres,
sealed user data. The guests are simulated (`bench._guests`): each has its address in its network's namespace, and asks
what cloud-init asks at a boot, one request after the other, each over a new connection. All begin at the same moment,
and the proxies are cold. A request lasts from the first packet of its connection until the proxy has closed it. Each
answer is checked: whose it is, and the user data.

That a guest has fetched its metadata is told to the cloud, but guests go first: `told` is of how many the cloud knew it
when the last had everything, and so how many of those events are in the CPU of a request.

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
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import _guests as simulated
from bench._cloud import Cloud, Parts, prepare, running_cloud
from cirra.network.v1.network_pb2 import Network
from core.agent.identity import HostIdentity
from core.embedded.server import LOOPBACK
from core.pki.tls import TlsFiles
from net_agent.drivers.linux.proxy import ProxyIdentity
from net_agent.metadata_proxy.config import LISTEN_ADDRESS
from tests.harness.metadata_guests import guest_network

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
# Of what the guests tell, which is one line.
_LINE_OCTETS = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Guests:
    """Of one network: the address of each → its instance."""

    network: Network
    instances: Mapping[str, str]


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
            "cpu_ms_per_request": {name: round(ms / len(ordered), 2) for name, ms in self.cpu_ms.most_common(7)},
            "cpu_ms": round(self.cpu_ms.total() / len(ordered), 2),
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
    found: dict[str, dict[str, str]] = {network.uid: {} for network in networks}

    async def worker() -> None:
        for number in names:
            network = networks[number % NETWORKS]
            operation = await cloud.admin.instances.create(
                f"guest-{number}", flavor=parts.flavor, image=parts.image, networks=[network], user_data=USER_DATA
            )
            await cloud.admin.operations.wait(operation, timeout_s=PATIENCE_S)
            instance = await cloud.admin.instances.get(operation.target)
            found[network.uid][instance.nics[0].fixed_ip] = instance.uid

    async with asyncio.TaskGroup() as workers:
        for _ in range(IN_FLIGHT):
            workers.create_task(worker())
    return [Guests(network, found[network.uid]) for network in networks]


async def storm(cloud: Cloud, guests: Sequence[simulated.Guest], folder: Path) -> Waits:
    """All guests at once."""
    file = folder / "storm.json"
    simulated.Storm(LISTEN_ADDRESS, PATHS, guests).write(file)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench._guests", str(file), limit=_LINE_OCTETS,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        await process.stdout.readline()
        before = cloud.cpu_ms()
        process.stdin.write(b"go\n")
        line = await process.stdout.readline()
        used = cloud.cpu_ms()
        await process.communicate()
    assert process.returncode == 0, "the guests did not get what they asked for"
    result = simulated.Result(**json.loads(line))
    used.subtract(before)
    used["guests"] = round(result.cpu_ms)
    return Waits(result.requests, result.guests, used)


async def measure(
    cloud: Cloud, identity: ProxyIdentity, population: Sequence[Guests], folder: Path, *, checked: bool
) -> dict[str, Any]:
    """With proxies of their own, which have never met the service. checked: guests know what they should get."""
    async with AsyncExitStack() as stack:
        guests = []
        for each in population:
            network = await stack.enter_async_context(
                guest_network(folder / each.network.uid, identity, each.network.uid, list(each.instances))
            )
            guests += [
                simulated.Guest(str(network.namespace), address, expected(uid) if checked else {})
                for address, uid in each.instances.items()
            ]
        return (await storm(cloud, guests, folder)).figures()


def expected(uid: str) -> dict[str, str]:
    """What an instance must find."""
    return {
        f"{VERSION}/meta_data.json": f'"uuid": "{uid}"',
        f"{VERSION}/user_data": USER_DATA.decode(),
        "/latest/meta-data/instance-id": f"i-{uid[-8:]}",
    }


async def told(cloud: Cloud) -> int:
    """Of how many guests the cloud knows that they have their metadata."""
    return sum([instance.HasField("metadata_fetch_time") async for instance in cloud.admin.instances.list()])


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
            figures = await measure(cloud, identity, population, folder / "service", checked=True)
            figures["told"] = await told(cloud)
            answer = folder / "answer"
            answer.write_bytes(b"x" * 400)
            async with static_servers(TlsFiles.in_folder(cloud.layout.tls("metadata")), answer, REPLICAS) as urls:
                static = dataclasses.replace(identity, metadata_url=urls)
                baseline = await measure(cloud, static, population, folder / "static", checked=False)
    return {
        "bench": "metadata",
        "baseline": {"static_server": baseline},
        "figures": {
            "guests": count,
            "networks": NETWORKS,
            **figures,
        },
        "ratio": {key: round(figures[key] / baseline[key], 2) for key in ("p50_ms", "p99_ms", "max_ms")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--guests", type=int, default=500)
    print(json.dumps(asyncio.run(run(parser.parse_args().guests))))


if __name__ == "__main__":
    main()
