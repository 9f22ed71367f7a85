"""How many claims one placement process makes per second.

    python -m bench.placement [--seconds N] [--sizes 1000,10000] [--profile FILE]

Each part is a process of its own: Postgres with fsync, nats-server, one placement (`cirra-placement`, gRPC with mutual
TLS, tracing on), the relay from the log to NATS, and this one, which has 64 requests in flight over one channel. Every
request is a new instance's; every answer is a claim that is durable, with its capacity rows and its decision. The hosts
are events in the log; the silence after which they are down is set to a day, since nobody speaks for them here.

Baseline, in the same run, on the same Postgres, 64 at a time: `bench/_openstack_way.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import sys
import tempfile
import time
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psutil
import structlog

from bench import _openstack_way as openstack_way
from cirra.placement.v1 import events_pb2 as pb
from cirra.placement.v1 import placement_pb2 as public
from cirra.placement.v1 import scheduling_pb2 as api
from cirra.placement.v1.scheduling_pb2_grpc import SchedulingServiceStub
from core.aggregate import Aggregate
from core.bus import connect, ensure_streams
from core.context import current_context
from core.embedded.nats import EmbeddedNats
from core.embedded.postgres import EmbeddedPostgres
from core.eventlog import EventLog, Leases
from core.ids import host_aggregate_id, uuid7
from core.pki.authority import Authority
from core.pki.identity import Identity
from core.pki.tls import TlsFiles
from core.relay import Relay
from core.repository import Repository
from core.rpc.client import channel
from core.sealing import Keyring
from placement.hosts.host import Host

CELL = "bench"
IN_FLIGHT = 64
WARM_UP_S = 2.0
BASELINE_S = 4.0
HAS = openstack_way.Size(vcpus=64, memory_mib=262_144, disk_gib=4096)
WANTS = openstack_way.Size(vcpus=1, memory_mib=512, disk_gib=5)
CPU_RATIO = 4.0
READY_S = 60.0


def names(count: int) -> list[str]:
    return [f"host-{number:05d}" for number in range(count)]


async def make_hosts(log: EventLog, count: int) -> None:
    """Enrolled, with an inventory, and up."""
    repository = Repository(log, Keyring(log.pool, f"{CELL}_log", os.urandom(32)), current_context)
    inventory = public.Inventory(
        vcpus=HAS.vcpus,
        memory_mib=HAS.memory_mib,
        disk_gib=HAS.disk_gib,
        virt_types=["simulated"],
        cpu_arch="x86_64",
        vcpu_allocation_ratio=CPU_RATIO,
    )

    def host(name: str) -> Aggregate:
        made = Host.new(host_aggregate_id(name))
        made.enrol(name, "nova")
        made.set_inventory(inventory)
        made.record(pb.HostUp(host=name, boot_ids={"compute": "b", "net": "b"}))
        return made

    for first in range(0, count, 200):
        await repository.save(*(host(name) for name in names(count)[first : first + 200]))


async def run_relay(dsn: str, nats_url: str) -> None:
    """The relay alone, until killed: in the product a task of the conductor."""
    log = await EventLog.open(dsn, schema=f"{CELL}_log")
    bus = await connect(nats_url, cell=CELL, name="relay")
    await ensure_streams(bus)
    await Relay(log, Leases(log.pool, log.schema), bus, holder="bench").run()


@asynccontextmanager
async def process(arguments: list[str], environment: dict[str, str]) -> AsyncIterator[Process]:
    """A part of the cloud; its output is this process's stderr."""
    started = await asyncio.create_subprocess_exec(*arguments, env={**os.environ, **environment}, stdout=sys.stderr)
    try:
        yield started
        if started.returncode is not None:
            raise RuntimeError(f"{arguments} ended with {started.returncode} while it was measured")
    finally:
        if started.returncode is None:
            started.terminate()
            await started.wait()


async def ready(file: Path, started: Process) -> str:
    """The address at which the process listens, once it does."""
    async with asyncio.timeout(READY_S):
        while not await asyncio.to_thread(file.exists):
            if started.returncode is not None:
                raise RuntimeError(f"placement ended with {started.returncode} before it was ready")
            await asyncio.sleep(0.05)
    address: str = json.loads(await asyncio.to_thread(file.read_text))["grpc"]
    return address


async def relayed(nats_url: str, position: int) -> None:
    """Returns once the relay has passed the position: what comes later is relayed as it comes."""
    bus = await connect(nats_url, cell=CELL, name="bench")
    async with asyncio.timeout(READY_S):
        while (await bus.js.stream_info(bus.subjects.events_stream)).state.last_seq < position:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    await bus.close()


async def rate(act: Callable[[], Awaitable[object]], seconds: float) -> tuple[float, int]:
    """How often per second it is done, `IN_FLIGHT` at a time, and how often in all."""
    begin = time.perf_counter()
    done = 0

    async def worker() -> None:
        nonlocal done
        while time.perf_counter() < begin + seconds:
            await act()
            done += 1

    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
    return done / (time.perf_counter() - begin), done


async def measure_claims(
    address: str, tls: TlsFiles, seconds: float, parts: Mapping[int, str]
) -> tuple[float, dict[str, float]]:
    """Claims per second once the services are warm, and the CPU time per claim of each part, in milliseconds."""
    dialled = channel([address], tls, server=Identity.service("placement"))
    stub = SchedulingServiceStub(dialled)
    wanted = api.Resources(vcpus=WANTS.vcpus, memory_mib=WANTS.memory_mib, disk_gib=WANTS.disk_gib)

    async def claim() -> None:
        await stub.Claim(api.ClaimRequest(claim_id=str(uuid7()), attempt=1, resources=wanted, availability_zone="nova"))

    try:
        await rate(claim, WARM_UP_S)
        before = cpu_s(parts)
        per_s, claims = await rate(claim, seconds)
        used = cpu_s(parts) - before
    finally:
        await dialled.close()
    return per_s, {part: round(1000 * cpu / claims, 2) for part, cpu in used.most_common()}


async def measure_baseline(dsn: str, count: int) -> float:
    pool = await asyncpg.create_pool(dsn, min_size=8, max_size=8)
    try:
        await openstack_way.prepare(pool, names(count), HAS, CPU_RATIO)
        per_s, _ = await rate(lambda: openstack_way.claim(pool, WANTS), BASELINE_S)
        return per_s
    finally:
        await pool.execute("DROP SCHEMA openstack_way CASCADE")
        await pool.close()


def cpu_s(parts: Mapping[int, str]) -> Counter[str]:
    """User and system time until now: of this process ("client") and of those below it, by *parts* (process id → name)
    or by what they run ("postgres")."""
    found: Counter[str] = Counter()
    me = psutil.Process()
    for each in (me, *me.children(recursive=True)):
        times = each.cpu_times()
        found["client" if each is me else parts.get(each.pid, each.name())] += times.user + times.system
    return found


@dataclass(frozen=True, slots=True)
class Measured:
    """Claims per second, of the product and of the baseline; CPU time per claim of each part of the product."""

    per_s: float
    baseline_per_s: float
    cpu_ms: dict[str, float]


async def measure(count: int, seconds: float, profile: str) -> Measured:
    """At so many hosts."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with EmbeddedPostgres(folder / "postgres") as postgres, EmbeddedNats(folder / "nats") as nats:
            log = await EventLog.open(postgres.dsn, schema=f"{CELL}_log")
            await make_hosts(log, count)
            head = (await log.head()).position
            authority = Authority.create(folder / "ca")
            calling_tls = authority.issue_server("conductor", ("127.0.0.1",), folder / "conductor")
            (folder / "master").write_text(base64.b64encode(os.urandom(32)).decode())
            serving_tls = authority.issue_server("placement", ("127.0.0.1",), folder / "placement")
            environment = {
                "CIRRA_CELL": CELL,
                "CIRRA_REPLICA": "placement-1",
                "CIRRA_POSTGRES_DSN": postgres.dsn,
                "CIRRA_NATS_URLS": nats.url,
                "CIRRA_MASTER_KEY_FILE": str(folder / "master"),
                "CIRRA_TLS_DIRECTORY": str(serving_tls.certificate.parent),
                "CIRRA_READY_FILE": str(folder / "ready"),
                "CIRRA_TRACE_FILE": str(folder / "traces"),
                "CIRRA_LOG_LEVEL": "warning",
                "CIRRA_HEARTBEAT_WINDOW_S": "86400",
            }
            serving = [sys.executable, "-m", "placement"]
            if profile:
                serving = [sys.executable, "-m", "cProfile", "-o", f"{profile}.{count}", "-m", "placement"]
            relaying = [sys.executable, "-m", "bench.placement", "--relay", postgres.dsn, nats.url]
            async with process(relaying, {}) as relay, process(serving, environment) as placement:
                address = await ready(folder / "ready", placement)
                await relayed(nats.url, head)
                parts = {relay.pid: "relay", placement.pid: "placement"}
                per_s, cpu_ms = await measure_claims(address, calling_tls, seconds, parts)
            await log.close()
            baseline = await measure_baseline(postgres.dsn, count)
    return Measured(per_s, baseline, cpu_ms)


async def run(sizes: list[int], seconds: float, profile: str) -> dict[str, object]:
    found = {count: await measure(count, seconds, profile) for count in sizes}
    return {
        "bench": "placement",
        "baseline": {f"per_s_{count}": round(each.baseline_per_s, 1) for count, each in found.items()},
        "figures": {
            **{f"per_s_{count}": round(each.per_s) for count, each in found.items()},
            **{f"cpu_ms_{count}": each.cpu_ms for count, each in found.items()},
        },
        "ratio": {f"hosts_{count}": round(each.per_s / each.baseline_per_s, 1) for count, each in found.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--sizes", default="1000,10000", help="numbers of hosts")
    parser.add_argument("--profile", default="", help="where cProfile's data of the placement process goes")
    parser.add_argument("--relay", nargs=2, metavar=("DSN", "NATS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    if arguments.relay:
        asyncio.run(run_relay(*arguments.relay))
    else:
        sizes = [int(size) for size in arguments.sizes.split(",")]
        print(json.dumps(asyncio.run(run(sizes, arguments.seconds, arguments.profile))))


if __name__ == "__main__":
    main()
