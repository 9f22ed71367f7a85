"""What it costs to create an instance: from the API call until the client sees it ACTIVE.

    python -m bench.create [--one-by-one N] [--at-once N]

A whole cloud of separate processes (`bench._cloud`), its hypervisor and network simulated; mutual TLS, events,
tracing and fsync are on. First N creates one after another, then N with 50 in flight; how they are measured:
`bench._work`. Baseline, in the same run: creating a key pair, the smallest change there is: one call, one append, one
row of a read model.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path

from bench._cloud import prepare, running_cloud
from bench._work import IN_FLIGHT, PUBLIC_KEY, WARM_UP, arguments, boot, measure, result, steps_ms


async def run(one_by_one: int, at_once: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        async with running_cloud() as cloud:
            admin = cloud.admin
            parts = await prepare(admin, Path(folder))

            async def key_pair(number: int) -> None:
                await admin.key_pairs.create(f"key-{number}", PUBLIC_KEY)

            await measure(cloud, lambda number: boot(admin, parts, f"warm-{number}"), WARM_UP, 1)
            baseline = await measure(cloud, key_pair, one_by_one, 1)
            single = await measure(cloud, lambda number: boot(admin, parts, f"one-{number}"), one_by_one, 1)
            steps = await steps_ms(admin, "instance-create")
            burst = await measure(cloud, lambda number: boot(admin, parts, f"many-{number}"), at_once, IN_FLIGHT)
    return result("create", {"key_pair": baseline}, single, burst, steps)


def main() -> None:
    given = arguments(__doc__)
    print(json.dumps(asyncio.run(run(given.one_by_one, given.at_once))))


if __name__ == "__main__":
    main()
