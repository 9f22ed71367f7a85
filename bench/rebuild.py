"""How fast read models are built again from the log.

    python -m bench.rebuild [--instances N]

A whole cloud of separate processes (`bench._cloud`) whose log holds N instances (`bench._history`); then
`cirra-deploy rebuild`, as an operator has it. Baseline, in the same run: reading the same events from the log, and
nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench._cloud import Cloud, prepare, running_cloud
from bench._history import make_history, projected
from core.eventlog import EventLog
from deployment.config import Config
from deployment.servers import servers

_BATCH = 1000
# As `core.rebuild` prints it.
_PROGRESS = re.compile(
    r"(?P<name>[\w-]+): (?P<position>\d+)/(?P<target>\d+) events \(\d+%\), (?P<per_s>[\d,]+) events/s"
)


async def reading_per_s(cloud: Cloud) -> float:
    """Events per second, read batch by batch."""
    config = Config.load(cloud.layout)
    log = await EventLog.open(servers(cloud.layout, config).postgres_dsn, schema=f"{config.cell}_log")
    began, position = time.perf_counter(), 0
    try:
        while events := await log.read(after=position, limit=_BATCH):
            position = events[-1].position
    finally:
        await log.close()
    return position / (time.perf_counter() - began)


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """`per_s`: events per second of each projection, from the command's start on. `fixed_s`: of all the time that it
    took, `seconds`, what is not spent on events: processes that start, notice, end."""

    per_s: dict[str, int]
    seconds: float
    fixed_s: float


async def rebuild(cloud: Cloud) -> Rebuilt:
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "deployment", "rebuild", "--state-dir", str(cloud.layout.root)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    per_s: dict[str, int] = {}
    building_s = 0.0
    async for line in process.stdout:
        progress = _PROGRESS.match(line.decode().strip())
        if progress and progress["position"] == progress["target"]:
            events = int(progress["target"])
            per_s[progress["name"]] = round(events / (time.perf_counter() - began))
            building_s = max(building_s, events / float(progress["per_s"].replace(",", "")))
    if code := await process.wait():
        raise RuntimeError(f"rebuild ended with {code}")
    seconds = time.perf_counter() - began
    return Rebuilt(per_s, round(seconds, 1), round(seconds - building_s, 1))


async def run(instances: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        async with running_cloud() as cloud:
            history = await make_history(cloud, await prepare(cloud.admin, Path(folder)), instances)
            await projected(cloud, history.position)
            reading = await reading_per_s(cloud)
            rebuilt = await rebuild(cloud)
    return {
        "bench": "rebuild",
        "baseline": {"reading_per_s": round(reading)},
        "figures": {
            **{f"{name}_per_s": rate for name, rate in sorted(rebuilt.per_s.items())},
            "seconds": rebuilt.seconds,
            "fixed_s": rebuilt.fixed_s,
            "events": history.position,
        },
        "ratio": {name: round(rate / reading, 2) for name, rate in sorted(rebuilt.per_s.items())},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=10_000)
    print(json.dumps(asyncio.run(run(parser.parse_args().instances))))


if __name__ == "__main__":
    main()
