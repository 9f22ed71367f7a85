"""Work on a whole cloud, such as creating an instance: how long a piece of it takes, and what CPU time of whom.

A bench of such work does it one after the other, then with `IN_FLIGHT` under way, and measures the smallest work of
that sort in the same run. CPU is that of all processes of the cloud together, Postgres and NATS included; the client's
own is told apart.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from bench._cloud import Cloud, Parts
from cirra.operations.v1.operations_pb2 import OPERATION_STATE_SUCCEEDED, Operation
from cirra_sdk import AsyncClient

WARM_UP = 20
IN_FLIGHT = 50
PATIENCE_S = 120.0
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFeMg4NEbgIXJdXcdnbXcYOQhP7A9pJ1cLcYJN4w+mVq user@laptop"
_OPERATIONS_SEEN = 100

Work = Callable[[int], Awaitable[object]]
"""The piece of work with a number: 0, 1, …"""


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


async def measure(cloud: Cloud, work: Work, count: int, in_flight: int) -> Run:
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


async def succeeded(admin: AsyncClient, operation: Operation) -> None:
    """Returns once it has; raises OperationFailed or TimeoutError."""
    ended = await admin.operations.wait(operation, timeout_s=PATIENCE_S)
    assert ended.state == OPERATION_STATE_SUCCEEDED, ended


async def boot(admin: AsyncClient, parts: Parts, name: str) -> None:
    """An instance; returns once it is ACTIVE."""
    await succeeded(
        admin,
        await admin.instances.create(name, flavor=parts.flavor, image=parts.image, networks=[parts.network]),
    )


async def steps_ms(admin: AsyncClient, kind: str) -> dict[str, float]:
    """Median duration of each step of the latest operations of a kind."""
    durations: dict[str, list[float]] = {}
    seen = 0
    async for operation in admin.operations.list():
        if operation.kind != kind:
            continue
        for step in operation.steps:
            took = step.end_time.ToNanoseconds() - step.start_time.ToNanoseconds()
            durations.setdefault(step.step, []).append(took / 1e6)
        seen += 1
        if seen == _OPERATIONS_SEEN:
            break
    return {step: round(statistics.median(each), 1) for step, each in durations.items()}


def result(
    bench: str, smallest: Mapping[str, Run], single: Run, burst: Run, steps: dict[str, float]
) -> dict[str, object]:
    """What the bench ends in. *smallest*: the smallest work of that sort, by its name."""
    [(name, baseline)] = smallest.items()
    return {
        "bench": bench,
        "baseline": {f"{name}_ms": baseline.median_ms, f"{name}_cpu_ms": baseline.total_cpu_ms},
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


def arguments(description: str | None) -> argparse.Namespace:
    """`one_by_one` and `at_once`: how many pieces of work."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one-by-one", type=int, default=100)
    parser.add_argument("--at-once", type=int, default=400)
    return parser.parse_args()
