"""Reading lists through the public API, of a project with many instances.

    python -m bench.list [--instances N]

A whole cloud of separate processes (`bench._cloud`) whose log holds N instances with a port each (`bench._history`).
Measured is the gateway's answer, of one call at a time, as a client sees it over TLS: a page of 100 somewhere in the
middle, those of one host, the one of a name. Baseline, in the same run: the list of the project's only flavor.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench._cloud import prepare, running_cloud
from bench._history import HOSTS, host_name, instance_name, make_history, projected
from cirra.compute.v1 import compute_pb2 as compute
from cirra.compute.v1.compute_pb2_grpc import ComputeServiceStub
from cirra_sdk import AsyncClient
from cirra_sdk.channel import open_channel
from deployment import clouds

PAGE = 100
SAMPLES = 40
_WARM_UP = 5


class Caller:
    """Calls the API as the SDK does, but sees pages as pages."""

    def __init__(self, stub: ComputeServiceStub, token: str) -> None:
        self._stub = stub
        self._metadata = (("authorization", f"Bearer {token}"),)

    async def page(self, token: str = "", **filters: str) -> compute.ListInstancesResponse:
        request = compute.ListInstancesRequest(page_size=PAGE, page_token=token, **filters)  # type: ignore[arg-type]
        answer: compute.ListInstancesResponse = await self._stub.ListInstances(request, metadata=self._metadata)
        return answer

    async def flavors(self) -> None:
        await self._stub.ListFlavors(compute.ListFlavorsRequest(page_size=PAGE), metadata=self._metadata)


async def median_ms(act: Callable[[], Awaitable[object]]) -> float:
    durations = []
    for _ in range(_WARM_UP + SAMPLES):
        began = time.perf_counter()
        await act()
        durations.append((time.perf_counter() - began) * 1000)
    return round(statistics.median(durations[_WARM_UP:]), 1)


async def page_in_the_middle(caller: Caller, instances: int) -> str:
    """The token of that page."""
    answer = await caller.page()
    for _ in range(instances // PAGE // 2):
        answer = await caller.page(answer.next_page_token)
    return answer.next_page_token


async def measure(admin: AsyncClient, caller: Caller, instances: int) -> dict[str, float]:
    token = await page_in_the_middle(caller, instances)
    assert len((await caller.page(token)).instances) == PAGE
    host, name = host_name(7), instance_name(instances // 2)
    of_host = (await caller.page(host=host)).instances
    assert len(of_host) == min(PAGE, instances // HOSTS) and {found.host for found in of_host} == {host}
    assert [found.display_name for found in (await caller.page(display_name=name)).instances] == [name]
    return {
        "page_ms": await median_ms(lambda: caller.page(token)),
        "first_page_ms": await median_ms(caller.page),
        "host_ms": await median_ms(lambda: caller.page(host=host)),
        "name_ms": await median_ms(lambda: caller.page(display_name=name)),
        "flavors_ms": await median_ms(caller.flavors),
    }


async def run(instances: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        async with running_cloud() as cloud:
            parts = await prepare(cloud.admin, Path(folder))
            history = await make_history(cloud, parts, instances)
            await projected(cloud, history.position)
            channel = open_channel(clouds.admin(cloud.layout))
            caller = Caller(ComputeServiceStub(channel), await cloud.admin.access_token())
            figures = await measure(cloud.admin, caller, instances)
            await channel.close()
    baseline = figures.pop("flavors_ms")
    return {
        "bench": "list",
        "baseline": {"flavors_ms": baseline},
        "figures": {**figures, "instances": instances},
        "ratio": {"page": round(figures["page_ms"] / baseline, 1)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=25_000)
    print(json.dumps(asyncio.run(run(parser.parse_args().instances))))


if __name__ == "__main__":
    main()
