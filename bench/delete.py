"""What it costs to delete an instance: from the API call until the client sees it gone.

    python -m bench.delete [--one-by-one N] [--at-once N]

A whole cloud of separate processes (`bench._cloud`), its hypervisor and network simulated; mutual TLS, events,
tracing and fsync are on. The instances are ACTIVE. First N deletes one after another, then N with 50 in flight; how
they are measured: `bench._work`. Gone means that domain, port, address and claim are given back, and that a list
doesn't show it. Baseline, in the same run: deleting a key pair, the smallest delete there is: one call, one append,
one row of a read model.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path

from bench._cloud import prepare, running_cloud
from bench._work import IN_FLIGHT, PUBLIC_KEY, WARM_UP, arguments, boot, measure, result, steps_ms, succeeded


async def run(one_by_one: int, at_once: int) -> dict[str, object]:
    count = WARM_UP + one_by_one + at_once
    with tempfile.TemporaryDirectory() as folder:
        async with running_cloud() as cloud:
            admin = cloud.admin
            parts = await prepare(admin, Path(folder))
            await measure(cloud, lambda number: boot(admin, parts, f"guest-{number}"), count, IN_FLIGHT)
            instances = [instance async for instance in admin.instances.list()]
            key_pairs = [await admin.key_pairs.create(f"key-{number}", PUBLIC_KEY) for number in range(one_by_one)]
            assert len(instances) == count

            async def delete(number: int) -> None:
                await succeeded(admin, await admin.instances.delete(instances.pop()))

            async def delete_key_pair(number: int) -> None:
                await admin.key_pairs.delete(key_pairs[number])

            await measure(cloud, delete, WARM_UP, 1)
            baseline = await measure(cloud, delete_key_pair, one_by_one, 1)
            single = await measure(cloud, delete, one_by_one, 1)
            steps = await steps_ms(admin, "instance-delete")
            burst = await measure(cloud, delete, at_once, IN_FLIGHT)
            left = [resource for kind in (admin.instances, admin.ports) async for resource in kind.list()]
            assert not left, left
    return result("delete", {"key_pair": baseline}, single, burst, steps)


def main() -> None:
    given = arguments(__doc__)
    print(json.dumps(asyncio.run(run(given.one_by_one, given.at_once))))


if __name__ == "__main__":
    main()
