"""Hosts lose their power, stand still, are left alone by a supervisor that is killed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import psutil
import pytest
import pytest_asyncio

from cirra.compute.v1.compute_pb2 import Instance
from cirra.placement.v1.placement_pb2 import HOST_STATE_DOWN, HOST_STATE_UP
from core.ids import last_segment
from core.testing.faults.processes import kill
from deployment.demo.guest import wait_login
from deployment.demo.tenant import Tenant
from deployment.lock import supervisor_pid
from tests.e2e.cloud import eventually
from tests.e2e.testbed import states
from tests.e2e.testbed.guests import BOOT_TIMEOUT_S, boot_one_on_each, delete_all, is_itself
from tests.e2e.testbed.processes import agents
from tests.testbed.testbed import Testbed
from tests.testbed.traces import namespaces_of

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(600),
]
_BOOT_ID = ("cat", "/proc/sys/kernel/random/boot_id")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def guests(testbed: Testbed, tenant: Tenant) -> AsyncIterator[list[Instance]]:
    made = await boot_one_on_each(testbed, tenant, "power")
    for guest in made:
        await wait_login(testbed.inside(guest), BOOT_TIMEOUT_S)
    yield made
    await delete_all(tenant, made)


async def test_a_power_failure_takes_everything_but_the_disk(testbed: Testbed, guests: list[Instance]) -> None:
    host = testbed.hosts[2]
    [guest] = [each for each in guests if last_segment(each.host) == host.name]
    boot_id, former = await testbed.output(host.name, *_BOOT_ID), set(host.processes().values())
    assert any(name.startswith("tap") for name in await testbed.links(host.name))
    await host.power_off()
    assert (host.first_process, host.processes()) == (None, {})
    assert [pid for pid in former if psutil.pid_exists(pid)] == [], "all of it has ended"
    await states.becomes(testbed, host.name, HOST_STATE_DOWN)

    await host.power_on()
    await states.becomes(testbed, host.name, HOST_STATE_UP)
    assert await testbed.output(host.name, *_BOOT_ID) != boot_id
    # The guest that should run does, from its disk, on a tap that is made anew.
    await wait_login(testbed.inside(guest), BOOT_TIMEOUT_S)
    assert await testbed.domains(host) == [f"cirra-{guest.uid}"]


async def test_a_host_that_stands_still_is_down_and_goes_on(testbed: Testbed, guests: list[Instance]) -> None:
    host = testbed.hosts[0]
    before = host.processes()
    host.pause()
    try:
        assert host.is_paused
        await states.becomes(testbed, host.name, HOST_STATE_DOWN)
    finally:
        host.resume()
    await states.becomes(testbed, host.name, HOST_STATE_UP)
    assert before.items() <= host.processes().items(), "the same processes"


async def test_hosts_outlive_the_supervisor(testbed: Testbed, guests: list[Instance]) -> None:
    namespaces = namespaces_of(testbed.site)
    pid = supervisor_pid(testbed.cloud.layout)
    assert pid is not None
    await kill(pid, tree=False)
    again = await testbed.cloud.deploy("up", "--hosts", str(len(testbed.hosts)))
    assert again.code == 0, again.output
    assert namespaces_of(testbed.site) == namespaces, "no host was booted"
    await states.all_up(testbed)
    for guest in guests:
        await is_itself(testbed, guest)


async def test_agents_are_started_anew_by_their_host(testbed: Testbed) -> None:
    host = testbed.hosts[0]
    [agent] = agents(host, "net")
    await kill(agent, tree=False)
    await eventually(lambda: [pid for pid in agents(host, "net") if pid != agent], "another net-agent")
    await states.all_up(testbed)
