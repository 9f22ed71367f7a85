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
from pathlib import Path

from bench._cloud import Cloud, prepare, running_cloud
from bench._history import make_history, projected
from core.eventlog import EventLog
from deployment.config import Config
from deployment.servers import servers

_BATCH = 1000
_SECTION = re.compile(r"^== (.+)-rebuild$")


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


async def rebuild_per_s(cloud: Cloud, events: int) -> dict[str, int]:
    """Events per second of each service; its start is in it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "deployment", "rebuild", "--state-dir", str(cloud.layout.root)),
        stdout=asyncio.subprocess.PIPE,
        env=None,
    )
    assert process.stdout is not None
    began: dict[str, float] = {}
    ended: dict[str, float] = {}
    service = ""
    async for line in process.stdout:
        section = _SECTION.match(line.decode().strip())
        if section:
            service = section[1]
            began[service] = time.perf_counter()
        if service:
            ended[service] = time.perf_counter()
    if code := await process.wait():
        raise RuntimeError(f"rebuild ended with {code}")
    return {name: round(events / (ended[name] - began[name])) for name in began}


async def run(instances: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        async with running_cloud() as cloud:
            history = await make_history(cloud, await prepare(cloud.admin, Path(folder)), instances)
            await projected(cloud, history.position)
            reading = await reading_per_s(cloud)
            rebuilt = await rebuild_per_s(cloud, history.position)
    return {
        "bench": "rebuild",
        "baseline": {"reading_per_s": round(reading)},
        "figures": {**{f"{name}_per_s": rate for name, rate in rebuilt.items()}, "events": history.position},
        "ratio": {name: round(rate / reading, 2) for name, rate in rebuilt.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=10_000)
    print(json.dumps(asyncio.run(run(parser.parse_args().instances))))


if __name__ == "__main__":
    main()
