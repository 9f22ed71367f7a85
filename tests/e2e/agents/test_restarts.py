"""Agents and libvirtd end and come back: guests, and what serves them, notice nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from cirra.agent.v1.desired_pb2 import DOMAIN_STATE_CRASHED, DOMAIN_STATE_RUNNING
from cirra.compute.v1.compute_pb2 import INSTANCE_STATUS_ACTIVE
from core.testing.faults.processes import kill
from deployment.demo.tenant import Tenant
from tests.e2e.agents.guest import TestGuest, create, created, delete, running_guest
from tests.e2e.agents.host import AGENTS, Host
from tests.e2e.cloud import comes_true, eventually

pytestmark = [pytest.mark.root, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def guest(tenant: Tenant, host: Host) -> AsyncIterator[TestGuest]:
    async with running_guest(tenant, host) as made:
        yield made


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_agents_that_end_touch_no_guest(host: Host, guest: TestGuest, number: signal.Signals) -> None:
    """All three at once; QEMU, dnsmasq and the metadata proxy stay the same processes."""
    before = host.guest_side()
    assert len(before) == 3, before
    former = {name: host.cloud.pid(name) for name in AGENTS}
    for pid in former.values():
        os.kill(pid, number)
    await host.run_anew(former)
    other = await created(guest.tenant, host, await create(guest.tenant))
    await delete(other)
    assert host.guest_side() == before
    assert (await guest.look()).status == INSTANCE_STATUS_ACTIVE
    assert await guest.run("echo here") == "here\n"


async def test_libvirtd_killed_touches_no_guest_and_the_agent_goes_on(host: Host, guest: TestGuest) -> None:
    before, agent = host.guest_side(), host.cloud.pid("compute-agent")
    await host.run_anew(await host.kill("libvirtd"))
    other = await created(guest.tenant, host, await create(guest.tenant))
    await delete(other)
    assert host.guest_side() == before
    assert host.cloud.pid("compute-agent") == agent, "it has connected again by itself"


async def test_a_guest_that_ends_while_libvirtd_is_dead_is_noticed_and_repaired(host: Host, guest: TestGuest) -> None:
    """The event is lost; what was missed is looked up when libvirtd is back."""
    await guest.write_mark("before")
    dead = guest.process
    with host.unattended():
        former = await host.kill("libvirtd")
        await kill(dead, tree=False)
        known = len(await guest.states())
    await host.run_anew(former)
    await eventually(lambda: host.qemus(guest.uid) not in ([], [dead]), "it runs again", timeout_s=180)
    assert await guest.read_mark() == "before"
    await guest.becomes(lambda it: it.status == INSTANCE_STATUS_ACTIVE, "ACTIVE")

    async def all_told() -> bool:
        return len(await guest.states()) >= known + 2

    await comes_true(all_told, "both changes are told")
    assert (await guest.states())[known:] == [DOMAIN_STATE_CRASHED, DOMAIN_STATE_RUNNING]
