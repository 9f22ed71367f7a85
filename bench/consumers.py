"""What it costs NATS to keep a consumer for each host on the command stream.

    python -m bench.consumers [--hosts N] [--seconds N]

nats-server, a process of its own; the stream and the consumers as the conductor makes them, one for the compute agent
of each host. Looked at: making them, making sure of them as the conductor does twice a minute, the memory and the CPU
of NATS while nothing happens, also with a pull request waiting at each as agents have, and publishing a command.

Baseline, in the same run: the same NATS before there are consumers.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import structlog
import uvloop

from bench._beating_hosts import host_names
from cirra.agent.v1.desired_pb2 import DesiredObject
from core.bus import Bus, connect, ensure_streams, publish_command
from core.bus.puller import Puller
from core.bus.streams import CommandConsumers
from core.bus.subjects import consumer_name
from core.embedded.nats import EmbeddedNats
from core.ids import uuid7

CELL = "bench"
AGENT = "compute"
COMMANDS = 500
CONNECTIONS = 8
SETTLE_S = 3.0
_MIB = 1024**2


@dataclass(frozen=True, slots=True)
class Quiet:
    """NATS while nothing is asked of it: memory, and the share of a core."""

    rss_mib: float
    cpu_percent: float


@dataclass(frozen=True, slots=True)
class Work:
    """Of one of many: how long it took, and the CPU time that NATS used."""

    median_ms: float
    cpu_us: float


async def quiet(server: psutil.Process, seconds: float) -> Quiet:
    await asyncio.sleep(SETTLE_S)
    before, began = cpu_s(server), time.monotonic()
    await asyncio.sleep(seconds)
    share = (cpu_s(server) - before) / (time.monotonic() - began)
    return Quiet(round(server.memory_info().rss / _MIB), round(100 * share, 2))


async def publishing(server: psutil.Process, bus: Bus, hosts: Sequence[str]) -> Work:
    """One command after the other, each to another host."""
    durations = []
    before = cpu_s(server)
    for host in itertools.islice(itertools.cycle(hosts), COMMANDS):
        command = DesiredObject(host=host, agent=AGENT, kind="domain", object_id=str(uuid7()), generation=1)
        began = time.perf_counter()
        await publish_command(bus, host, AGENT, "EnsureDomain", command.object_id, command)
        durations.append((time.perf_counter() - began) * 1000)
    return Work(round(statistics.median(durations), 3), round((cpu_s(server) - before) * 1e6 / COMMANDS))


async def making(server: psutil.Process, consumers: CommandConsumers, hosts: Sequence[str]) -> tuple[Work, float]:
    """One host after the other, as they enrol; and how many per second."""
    durations = []
    before, start = cpu_s(server), time.perf_counter()
    for host in hosts:
        began = time.perf_counter()
        await consumers.add(host, (AGENT,))
        durations.append((time.perf_counter() - began) * 1000)
    per_s = len(hosts) / (time.perf_counter() - start)
    return Work(round(statistics.median(durations), 3), round((cpu_s(server) - before) * 1e6 / len(hosts))), per_s


async def making_sure(server: psutil.Process, consumers: CommandConsumers) -> dict[str, float]:
    """Of all of them, once: how long it takes, and the CPU time of NATS and of the conductor (this process)."""
    before, own, began = cpu_s(server), time.process_time(), time.perf_counter()
    await consumers.ensure()
    return {
        "s": round(time.perf_counter() - began, 2),
        "nats_cpu_ms": round((cpu_s(server) - before) * 1000),
        "conductor_cpu_ms": round((time.process_time() - own) * 1000),
    }


@asynccontextmanager
async def waiting(url: str, bus: Bus, hosts: Sequence[str]) -> AsyncIterator[None]:
    """A pull request at each consumer, renewed, as agents have it. Many hosts share a connection here."""
    async with AsyncExitStack() as stack:
        buses = [await connect(url, cell=CELL, name=f"hosts {number}") for number in range(CONNECTIONS)]
        for each in buses:
            stack.push_async_callback(each.close)
        pullers = [
            Puller(each, bus.subjects.commands_stream, consumer_name(host, AGENT))
            for each, host in zip(itertools.cycle(buses), hosts, strict=False)
        ]
        pulling = [asyncio.create_task(_pull(puller)) for puller in pullers]
        try:
            yield
        finally:
            for task in pulling:
                task.cancel()
            await asyncio.gather(*pulling, return_exceptions=True)


async def _pull(puller: Puller) -> None:
    while True:
        for message in await puller.fetch(16):
            await message.ack()


def cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def run(count: int, seconds: float) -> dict[str, object]:
    hosts = host_names(count)
    with tempfile.TemporaryDirectory() as folder:
        async with EmbeddedNats(Path(folder)) as nats:
            server = next(each for each in psutil.Process().children() if each.name() == "nats-server")
            bus = await connect(nats.url, cell=CELL, name="bench")
            await ensure_streams(bus)
            empty, published = await quiet(server, seconds), await publishing(server, bus, hosts)
            consumers = CommandConsumers(bus)
            made, made_per_s = await making(server, consumers, hosts)
            sure = await making_sure(server, consumers)
            full, published_to = await quiet(server, seconds), await publishing(server, bus, hosts)
            async with waiting(nats.url, bus, hosts):
                pulled = await quiet(server, seconds)
            await bus.close()
    return {
        "bench": "consumers",
        "baseline": {
            "rss_mib": empty.rss_mib,
            "idle_cpu_percent": empty.cpu_percent,
            "publish_ms": published.median_ms,
            "publish_cpu_us": published.cpu_us,
        },
        "figures": {
            "consumers": count,
            "rss_mib": full.rss_mib,
            "kib_each": round((full.rss_mib - empty.rss_mib) * 1024 / count, 1),
            "idle_cpu_percent": full.cpu_percent,
            "waiting_rss_mib": pulled.rss_mib,
            "waiting_cpu_percent": pulled.cpu_percent,
            "make_ms": made.median_ms,
            "make_cpu_us": made.cpu_us,
            "make_per_s": round(made_per_s),
            "make_sure": sure,
            "publish_ms": published_to.median_ms,
            "publish_cpu_us": published_to.cpu_us,
        },
        "ratio": {
            "rss": round(full.rss_mib / empty.rss_mib, 1),
            "publish": round(published_to.median_ms / published.median_ms, 2),
            "publish_cpu": round(published_to.cpu_us / published.cpu_us, 2),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=20.0)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    print(json.dumps(uvloop.run(run(arguments.hosts, arguments.seconds))))


if __name__ == "__main__":
    main()
