"""What it costs to hear 10,000 hosts, and how soon it is noticed that one has stopped.

    python -m bench.heartbeats [--hosts N] [--seconds N]

Each part is a process of its own: Postgres with fsync, nats-server with mutual TLS, one placement (`cirra-placement`)
whose detector declares, the hosts (`bench._beating_hosts`: three agents each, at the product's own interval), and this
one, which relays the log. CPU is taken while nothing happens but heartbeats. Then single hosts stop, and a rack at
once; a host is detected when its HostDown is in the log.

Baseline, in the same run, on the same Postgres: `bench/_openstack_beats.py`, of which only what Postgres uses is
counted.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import random
import statistics
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psutil
import structlog

from bench import _openstack_beats as openstack_beats
from bench._beating_hosts import BOOT_ID, CELL, host_names
from bench.placement import process, ready
from cirra.placement.v1.events_pb2 import HostDown
from core.bus import connect, ensure_streams
from core.context import current_context
from core.embedded.nats import EmbeddedNats
from core.embedded.postgres import EmbeddedPostgres
from core.eventlog import EventLog, Leases
from core.ids import host_aggregate_id
from core.liveness import INTERVAL_S
from core.natsauth.permissions import AGENTS
from core.pki.authority import Authority
from core.pki.tls import TlsFiles, client_ssl_context
from core.relay import Relay
from core.repository import Repository
from core.sealing import Keyring
from placement.hosts.host import Host

STOPPED_ALONE = 10
RACK = 40
PATIENCE_S = 120.0
BASELINE_S = 8.0
BASELINE_IN_FLIGHT = 32
BASELINE_SCANS = 5
SETTLE_S = 20.0
_DOWN = HostDown.DESCRIPTOR.full_name
_HOSTS_PER_APPEND = 200


@dataclass(frozen=True, slots=True)
class Heard:
    """While nothing but heartbeats happens: per second, and of one core."""

    beats_per_s: float
    detector_cpu: float
    nats_cpu: float
    postgres_cpu: float


@dataclass(frozen=True, slots=True)
class Baseline:
    """Beats per second that were written at most; CPU of Postgres for each; milliseconds of a scan."""

    beats_per_s: float
    cpu_us: float
    scan_ms: float


class Hosts:
    """The process of the hosts."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def silence(self, *hosts: str) -> float:
        """When they stopped."""
        return await self._ask("silence", *hosts)

    async def sent(self) -> float:
        return await self._ask("count")

    async def _ask(self, *words: str) -> float:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(" ".join(words).encode() + b"\n")
        async with asyncio.timeout(PATIENCE_S):
            return float(await self._process.stdout.readline())


@asynccontextmanager
async def beating(url: str, tls: TlsFiles, count: int) -> AsyncIterator[Hosts]:
    command = (sys.executable, "-m", "bench._beating_hosts", url, str(tls.certificate.parent), str(count))
    started = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
    try:
        yield Hosts(started)
    finally:
        started.kill()
        await started.wait()


async def make_hosts(log: EventLog, names: list[str]) -> None:
    """Enrolled, and up in the boot in which they beat: a detector that takes over adopts that."""
    repository = Repository(log, Keyring(log.pool, log.schema, os.urandom(32)), current_context)

    def host(name: str) -> Host:
        made = Host.new(host_aggregate_id(name))
        made.enrol(name, "nova")
        made.declare_up(dict.fromkeys(AGENTS, BOOT_ID))
        return made

    for first in range(0, len(names), _HOSTS_PER_APPEND):
        await repository.save(*map(host, names[first : first + _HOSTS_PER_APPEND]))


async def fallen(log: EventLog, after: int, wanted: set[str]) -> dict[str, float]:
    """Host → when the log told that it is down; returns once all the wanted are. Raises if another is."""
    found: dict[str, float] = {}
    async with asyncio.timeout(PATIENCE_S):
        while True:
            for event in await log.read(after=after):
                after = event.position
                if event.type == _DOWN:
                    found[HostDown.FromString(event.data).host] = time.monotonic()
            if wanted <= found.keys():
                break
            await log.wait_beyond(after, timeout=1.0)
    if found.keys() != wanted:
        raise RuntimeError(f"declared down, though they beat: {found.keys() - wanted}")
    return found


async def detect(log: EventLog, hosts: Hosts, names: list[str]) -> tuple[list[float], float]:
    """Seconds from the stop of each of some hosts until it was declared; and those of a rack, until its last was."""
    chosen = random.sample(names, STOPPED_ALONE + RACK)
    alone, rack = chosen[:STOPPED_ALONE], chosen[STOPPED_ALONE:]
    after = (await log.head()).position
    stopped = {}
    for host in alone:
        stopped[host] = await hosts.silence(host)
        await asyncio.sleep(random.uniform(0.2, 1.0))
    down = await fallen(log, after, set(alone))
    after, rack_stopped = (await log.head()).position, await hosts.silence(*rack)
    together = await fallen(log, after, set(rack))
    return [down[host] - stopped[host] for host in alone], max(together.values()) - rack_stopped


def cpu_s(process: psutil.Process) -> float:
    """User and system time, with that of its children (Postgres's back ends)."""
    spent = [each.cpu_times() for each in (process, *process.children(recursive=True)) if each.is_running()]
    return float(sum(times.user + times.system for times in spent))


def children(name: str) -> psutil.Process:
    """Our child of that name."""
    return next(each for each in psutil.Process().children() if each.name() == name)


async def listen(hosts: Hosts, placement: Process, seconds: float) -> Heard:
    parts = [psutil.Process(placement.pid), children("nats-server"), children("postgres")]
    before, sent, began = [cpu_s(part) for part in parts], await hosts.sent(), time.monotonic()
    await asyncio.sleep(seconds)
    passed = time.monotonic() - began
    shares = [(cpu_s(part) - spent) / passed for part, spent in zip(parts, before, strict=True)]
    return Heard((await hosts.sent() - sent) / passed, *shares)


async def measure_baseline(dsn: str, names: list[str]) -> Baseline:
    pool = await asyncpg.create_pool(dsn, min_size=BASELINE_IN_FLIGHT, max_size=BASELINE_IN_FLIGHT)
    try:
        services = await openstack_beats.prepare(pool, names, AGENTS)
        postgres = children("postgres")
        before = cpu_s(postgres)
        beats = await openstack_beats.beat_for(pool, services, BASELINE_S, BASELINE_IN_FLIGHT)
        used = cpu_s(postgres) - before
        scans = []
        for _ in range(BASELINE_SCANS):
            began = time.perf_counter()
            await openstack_beats.scan(pool)
            scans.append((time.perf_counter() - began) * 1000)
        return Baseline(beats / BASELINE_S, used * 1e6 / beats, statistics.median(scans))
    finally:
        await pool.close()


def environment(folder: Path, postgres: EmbeddedPostgres, nats: EmbeddedNats, tls: TlsFiles) -> dict[str, str]:
    (folder / "master").write_text(base64.b64encode(os.urandom(32)).decode())
    return {
        "CIRRA_CELL": CELL,
        "CIRRA_REPLICA": "placement-1",
        "CIRRA_POSTGRES_DSN": postgres.dsn,
        "CIRRA_NATS_URLS": nats.url,
        "CIRRA_MASTER_KEY_FILE": str(folder / "master"),
        "CIRRA_TLS_DIRECTORY": str(tls.certificate.parent),
        "CIRRA_READY_FILE": str(folder / "ready"),
        "CIRRA_TRACE_FILE": str(folder / "traces"),
        "CIRRA_LOG_LEVEL": "warning",
    }


async def run(count: int, seconds: float) -> dict[str, object]:
    names = host_names(count)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        authority = Authority.create(folder / "ca")
        tls = {part: authority.issue_server(part, ("127.0.0.1",), folder / part) for part in ("nats", "placement")}
        nats = EmbeddedNats(folder / "jetstream", tls=tls["nats"])
        async with EmbeddedPostgres(folder / "postgres") as postgres, nats:
            log = await EventLog.open(postgres.dsn, schema=f"{CELL}_log")
            await make_hosts(log, names)
            bus = await connect(nats.url, cell=CELL, name="bench", tls=client_ssl_context(tls["placement"]))
            await ensure_streams(bus)
            relaying = asyncio.create_task(Relay(log, Leases(log.pool, log.schema), bus, holder="bench").run())
            enrolled = (await log.head()).position
            async with beating(nats.url, tls["placement"], count) as hosts:
                serving = [sys.executable, "-m", "placement"]
                async with process(serving, environment(folder, postgres, nats, tls["placement"])) as placement:
                    await ready(folder / "ready", placement)
                    # The detector takes over, listens for a window, and writes its roll.
                    await asyncio.sleep(SETTLE_S)
                    await fallen(log, enrolled, set())
                    heard = await listen(hosts, placement, seconds)
                    alone, rack_s = await detect(log, hosts, names)
            relaying.cancel()
            await asyncio.wait({relaying})
            await bus.close()
            baseline = await measure_baseline(postgres.dsn, names)
            await log.close()
    return result(count, heard, baseline, alone, rack_s)


def result(count: int, heard: Heard, baseline: Baseline, alone: list[float], rack_s: float) -> dict[str, object]:
    expected = count * len(AGENTS) / INTERVAL_S
    if heard.beats_per_s < 0.9 * expected:
        raise RuntimeError(f"the hosts sent {heard.beats_per_s:.0f} of {expected:.0f} heartbeats/s: too busy a machine")
    cpu_us = (heard.detector_cpu + heard.nats_cpu + heard.postgres_cpu) * 1e6 / heard.beats_per_s
    return {
        "bench": "heartbeats",
        "baseline": {
            "beats_per_s": round(baseline.beats_per_s),
            "cpu_us": round(baseline.cpu_us, 1),
            "scan_ms": round(baseline.scan_ms, 1),
        },
        "figures": {
            "hosts": count,
            "beats_per_s": round(heard.beats_per_s),
            "detector_cpu_percent": round(100 * heard.detector_cpu, 1),
            "nats_cpu_percent": round(100 * heard.nats_cpu, 1),
            "postgres_cpu_percent": round(100 * heard.postgres_cpu, 1),
            "cpu_us": round(cpu_us, 1),
            "detect_s": round(max(alone), 1),
            "detect_median_s": round(statistics.median(alone), 1),
            f"detect_{RACK}_at_once_s": round(rack_s, 1),
        },
        "ratio": {"cpu_per_beat": round(baseline.cpu_us / cpu_us, 1)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=30.0)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    print(json.dumps(asyncio.run(run(arguments.hosts, arguments.seconds))))


if __name__ == "__main__":
    main()
