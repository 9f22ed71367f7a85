"""Three hosts that share a machine and nothing else, an Internet, and an office."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from cirra.compute.v1.compute_pb2 import INSTANCE_STATUS_ACTIVE, Instance
from cirra.placement.v1.placement_pb2 import HOST_STATE_DOWN, HOST_STATE_UP
from core.ids import last_segment
from deployment.demo.guest import wait_login
from deployment.demo.tenant import Tenant
from deployment.testbed import plan
from deployment.testbed.internet import GREETING
from tests.e2e.cloud import comes_true
from tests.e2e.testbed import states
from tests.e2e.testbed.guests import BOOT_TIMEOUT_S, boot_one_on_each, delete_all, is_itself
from tests.testbed.testbed import Testbed

pytestmark = [pytest.mark.root, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

# What makes a host one of its own; each prints something that no other host has.
_OWN = {
    "hostname": ("hostname",),
    "machine id": ("cat", "/etc/machine-id"),
    "boot id": ("cat", "/proc/sys/kernel/random/boot_id"),
    "network": ("readlink", "/proc/self/ns/net"),
    "address": ("ip", "-4", "-brief", "address", "show", plan.UNDERLAY_DEVICE),
    "control groups": ("readlink", "/proc/self/ns/cgroup"),
    "identity": ("sha256sum", "/var/lib/cirra/host/key.pem"),
    "libvirtd's identity": ("grep", "host_uuid", "/var/lib/cirra/libvirt/etc/libvirtd.conf"),
}
_COMMAND_LINES = ("sh", "-c", r"cat /proc/[0-9]*/cmdline | tr '\0' ' '")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def guests(testbed: Testbed, tenant: Tenant) -> AsyncIterator[list[Instance]]:
    made = await boot_one_on_each(testbed, tenant, "apart")
    yield made
    await delete_all(tenant, made)
    assert [await testbed.domains(host) for host in testbed.hosts] == [[] for _ in testbed.hosts]


async def test_all_hosts_are_up_with_all_their_agents(testbed: Testbed) -> None:
    names = {host.name for host in testbed.hosts}
    wanted = {(agent, name) for agent in states.AGENTS for name in names}

    async def up() -> bool:
        return await states.host_states(testbed) == dict.fromkeys(names, HOST_STATE_UP) and (
            await states.agents_up(testbed) == wanted
        )

    await comes_true(up, "all hosts up, and heard by all their agents")


@pytest.mark.parametrize("what", _OWN)
async def test_each_host_has_its_own(testbed: Testbed, what: str) -> None:
    answers = [await testbed.output(host.name, *_OWN[what]) for host in testbed.hosts]
    assert len(set(answers)) == len(answers), answers
    assert all(answer.strip() for answer in answers)


async def test_a_host_sees_neither_the_others_nor_the_clouds_files(testbed: Testbed) -> None:
    listing = await testbed.output("host-1", "ls", "-A", str(testbed.cloud.layout.root))
    assert listing == "", "secrets, keys, the others' disks"

    async def only_its_own() -> bool:
        """A process that one has just begun to start looks like it for a moment."""
        lines = await testbed.output("host-1", *_COMMAND_LINES)
        return all(lines.count(f"/cirra-{agent} ") == 1 for agent in states.AGENTS)

    await comes_true(only_its_own, "its own agents alone")


async def test_a_guest_boots_on_each_host(testbed: Testbed, guests: list[Instance]) -> None:
    """Each libvirtd knows its own guest, and no other."""
    by_host = {last_segment(guest.host): guest for guest in guests}
    assert by_host.keys() == {host.name for host in testbed.hosts}, "the scheduler keeps them apart"
    assert {guest.status for guest in guests} == {INSTANCE_STATUS_ACTIVE}
    for host in testbed.hosts:
        assert await testbed.domains(host) == [f"cirra-{by_host[host.name].uid}"]
    await asyncio.gather(*(wait_login(testbed.inside(guest), BOOT_TIMEOUT_S) for guest in guests))
    for guest in guests:
        await is_itself(testbed, guest)


async def test_a_host_that_is_cut_off_is_down_and_joined_it_is_up(testbed: Testbed, guests: list[Instance]) -> None:
    host = testbed.hosts[1]
    await host.cut()
    try:

        async def without_carrier() -> bool:
            return (await testbed.links(host.name))[plan.UNDERLAY_DEVICE]["operstate"] != "UP"

        await comes_true(without_carrier, "a cable that is pulled")
        await states.becomes(testbed, host.name, HOST_STATE_DOWN)
        others = {other.name for other in testbed.hosts} - {host.name}
        assert {(await states.host_states(testbed))[name] for name in others} == {HOST_STATE_UP}
        # The guest knows nothing of it.
        [guest] = [each for each in guests if last_segment(each.host) == host.name]
        await is_itself(testbed, guest)
    finally:
        await host.join()
    await states.becomes(testbed, host.name, HOST_STATE_UP)


async def test_the_office_reaches_the_internet_by_name(testbed: Testbed) -> None:
    dns, web = plan.DNS[0].ip, plan.WEB_NAMES[0]
    answer = await testbed.output(plan.OFFICE_NAME, "busybox", "nslookup", web, str(dns))
    assert str(plan.WEB[0].ip) in answer and str(plan.WEB[1].ip) in answer
    curl = ("curl", "--silent", "--fail", "--max-time", "30", "--noproxy", "*")
    for web_address in plan.WEB:
        host = f"[{web_address.ip}]" if web_address.version == 6 else str(web_address.ip)
        assert (await testbed.output(plan.OFFICE_NAME, *curl, f"http://{host}/")).strip() == GREETING
    assert (await testbed.output(plan.OFFICE_NAME, *curl, f"http://{plan.WEB[0].ip}/ip")).strip() == str(
        plan.OFFICE[0].ip
    )


async def test_nobody_answers_who_asks_for_an_address_in_the_office(testbed: Testbed, guests: list[Instance]) -> None:
    """Guests' DHCP stays on their own networks, while it is at work on every host."""
    for host in testbed.hosts:
        assert "dnsmasq " in await testbed.output(host.name, *_COMMAND_LINES)
    assert await testbed.dhcp_answer() is None


async def test_status_tells_of_every_host(testbed: Testbed) -> None:
    told = await testbed.cloud.deploy("status")
    assert told.code == 0, told.output
    for host in testbed.hosts:
        assert f"{host.name}: compute-agent" in told.output
