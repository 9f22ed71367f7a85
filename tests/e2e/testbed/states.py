"""What the cloud says of its hosts and services."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from cirra.placement.v1.placement_pb2 import HOST_STATE_UP, HostState
from tests.testbed.testbed import Testbed

TIMEOUT_S = 120.0
AGENTS = ("block-agent", "compute-agent", "net-agent")


async def host_states(testbed: Testbed) -> Mapping[str, HostState.ValueType]:
    """By the host's name, as `cirra host list` has it."""
    async with testbed.cloud.admin() as admin:
        return {host.name.removeprefix("hosts/"): host.state async for host in admin.hosts.list()}


async def agents_up(testbed: Testbed) -> set[tuple[str, str]]:
    """(service, host) of the agents that are heard, as `cirra service list` has it."""
    async with testbed.cloud.admin() as admin:
        services = await admin.services.list()
    return {(it.service, it.instance) for it in services if it.up and it.service in AGENTS}


async def becomes(testbed: Testbed, name: str, state: HostState.ValueType) -> None:
    """Returns once the host is in that state."""
    deadline = time.monotonic() + TIMEOUT_S
    while (states := await host_states(testbed))[name] != state:
        assert time.monotonic() < deadline, f"{name} is not {HostState.Name(state)} within {TIMEOUT_S:g} s: {states}"
        await asyncio.sleep(0.1)


async def all_up(testbed: Testbed) -> None:
    for host in testbed.hosts:
        await becomes(testbed, host.name, HOST_STATE_UP)
