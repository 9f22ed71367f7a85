"""A host is away for longer than the bus keeps its commands: it learns by its desired state what it missed."""

from __future__ import annotations

import asyncio
import time

import pytest

from cirra.placement.v1.placement_pb2 import HOST_STATE_DOWN, HOST_STATE_UP
from cirra.placement.v1.placement_pb2 import Host as PublicHost
from deployment.demo.tenant import Tenant
from tests.e2e.agents.guest import TIMEOUT_S, create, created, delete
from tests.e2e.agents.host import AGENTS, COMMANDS_MAX_AGE_S, Host
from tests.e2e.cloud import comes_true, eventually

pytestmark = [pytest.mark.root, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600), pytest.mark.slow]


async def public(host: Host) -> PublicHost:
    async with host.cloud.admin() as admin:
        return await admin.hosts.get(host.cloud.config.host)


async def test_a_host_that_was_away_learns_of_deletions(host: Host, tenant: Tenant) -> None:
    used = (await public(host)).usage
    kept, gone = await created(tenant, host, await create(tenant)), await created(tenant, host, await create(tenant))
    processes = host.qemus(kept.uid), host.qemus(gone.uid)
    with host.unattended():
        former = await host.kill(*AGENTS)
        operation = await tenant.user.instances.delete(gone.instance.name)
        # It ends although the host can't be told; what the guest has there is not given away meanwhile.
        await tenant.user.operations.wait(operation, timeout_s=TIMEOUT_S)
        assert (await public(host)).state == HOST_STATE_DOWN
        assert (await public(host)).usage.instances == used.instances + 2
        await asyncio.sleep(COMMANDS_MAX_AGE_S + 1)
        assert (host.qemus(kept.uid), host.qemus(gone.uid)) == processes
    await host.run_anew(former)
    await eventually(lambda: not host.qemus(gone.uid), "the guest that was deleted is gone", timeout_s=TIMEOUT_S)
    await eventually(lambda: not host.cloud.guest_folder(gone.uid).exists(), "its disk as well")
    assert host.qemus(kept.uid) == processes[0]
    deadline = time.monotonic() + TIMEOUT_S
    while (found := await public(host)).usage.instances != used.instances + 1 or found.state != HOST_STATE_UP:
        assert time.monotonic() < deadline, f"what was deleted is not given back: {found}"
        await asyncio.sleep(0.2)
    await delete(kept)

    async def given_back() -> bool:
        return (await public(host)).usage == used

    await comes_true(given_back, "what it used")
