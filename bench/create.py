"""What it costs to create an instance: from the API call until the client sees it ACTIVE.

    python -m bench.create [--one-by-one N] [--at-once N]

A whole cloud of separate processes (`bench._cloud`), its hypervisor and network simulated; mutual TLS, events,
tracing and fsync are on. First N creates one after another, then N with 50 in flight. CPU is that of all processes
of the cloud together, Postgres and NATS included; the client's own is told apart. Baseline, in the same run: creating
a key pair, the smallest change there is: one call, one append, one row of a read model.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench._cloud import Cloud, Parts, prepare, running_cloud
from cirra.operations.v1.operations_pb2 import OPERATION_STATE_SUCCEEDED
from cirra_sdk import AsyncClient

WARM_UP = 20
IN_FLIGHT = 50
PATIENCE_S = 120.0
_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFeMg4NEbgIXJdXcdnbXcYOQhP7A9pJ1cLcYJN4w+mVq user@laptop"


@dataclass(frozen=True, slots=True)
class Run:
    """Durations in milliseconds; `cpu_ms` of each service per piece of work; `per_s` of the whole."""

    durations: Sequence[float]
    per_s: float
    cpu_ms: Counter[str]
    client_cpu_ms: float

    @property
    def median_ms(self) -> float:
        return round(statistics.median(self.durations), 1)

    @property
    def total_cpu_ms(self) -> float:
        return round(sum(self.cpu_ms.values()), 1)


async def measure(cloud: Cloud, work: Callable[[int], Awaitable[None]], count: int, in_flight: int) -> Run:
    """*count* times the work, *in_flight* at once."""
    numbers = iter(range(count))
    durations: list[float] = []

    async def worker() -> None:
        for number in numbers:
            began = time.perf_counter()
            await work(number)
            durations.append((time.perf_counter() - began) * 1000)

    before, own, began = cloud.cpu_ms(), time.process_time(), time.perf_counter()
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as workers:
        for _ in range(in_flight):
            workers.create_task(worker())
    seconds = time.perf_counter() - began
    used = cloud.cpu_ms()
    used.subtract(before)
    per_piece = Counter({name: round(ms / count, 2) for name, ms in used.most_common() if ms > 0})
    return Run(durations, round(count / seconds, 1), per_piece, round((time.process_time() - own) * 1000 / count, 1))


async def boot(admin: AsyncClient, parts: Parts, name: str) -> None:
    operation = await admin.instances.create(name, flavor=parts.flavor, image=parts.image, networks=[parts.network])
    ended = await admin.operations.wait(operation, timeout_s=PATIENCE_S)
    assert ended.state == OPERATION_STATE_SUCCEEDED, ended


async def steps_ms(admin: AsyncClient) -> dict[str, float]:
    """Median duration of each step of the creates that the log holds, latest 100."""
    durations: dict[str, list[float]] = {}
    seen = 0
    async for operation in admin.operations.list():
        if operation.kind != "instance-create":
            continue
        for step in operation.steps:
            took = step.end_time.ToNanoseconds() - step.start_time.ToNanoseconds()
            durations.setdefault(step.step, []).append(took / 1e6)
        seen += 1
        if seen == 100:
            break
    return {step: round(statistics.median(each), 1) for step, each in durations.items()}


async def run(one_by_one: int, at_once: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        async with running_cloud() as cloud:
            admin = cloud.admin
            parts = await prepare(admin, Path(folder))

            async def key_pair(number: int) -> None:
                await admin.key_pairs.create(f"key-{number}", _KEY)

            await measure(cloud, lambda number: boot(admin, parts, f"warm-{number}"), WARM_UP, 1)
            baseline = await measure(cloud, key_pair, one_by_one, 1)
            single = await measure(cloud, lambda number: boot(admin, parts, f"one-{number}"), one_by_one, 1)
            steps = await steps_ms(admin)
            burst = await measure(cloud, lambda number: boot(admin, parts, f"many-{number}"), at_once, IN_FLIGHT)
    return {
        "bench": "create",
        "baseline": {"key_pair_ms": baseline.median_ms, "key_pair_cpu_ms": baseline.total_cpu_ms},
        "figures": {
            "median_ms": single.median_ms,
            "cpu_ms": single.total_cpu_ms,
            "per_s": burst.per_s,
            "burst_median_ms": burst.median_ms,
            "burst_cpu_ms": burst.total_cpu_ms,
            "client_cpu_ms": single.client_cpu_ms,
            "steps_ms": steps,
            "cpu_ms_by_service": dict(single.cpu_ms),
            "burst_cpu_ms_by_service": dict(burst.cpu_ms),
        },
        "ratio": {
            "median": round(single.median_ms / baseline.median_ms, 1),
            "cpu": round(single.total_cpu_ms / baseline.total_cpu_ms, 1),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one-by-one", type=int, default=100)
    parser.add_argument("--at-once", type=int, default=400)
    arguments = parser.parse_args()
    print(json.dumps(asyncio.run(run(arguments.one_by_one, arguments.at_once))))


if __name__ == "__main__":
    main()
