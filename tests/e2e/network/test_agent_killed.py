"""Net-agents are killed amid fifty bindings, twice on each host: all of them come about, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from cirra.compute.v1.compute_pb2 import Instance, InstanceNic
from cirra.network.v1.diagnosis_pb2 import HOP_STATE_BROKEN, HOP_STATE_UNKNOWN
from cirra.network.v1.network_pb2 import Network
from core.ids import dhcp_namespace, last_segment, tap_device
from core.testing.faults.processes import kill
from deployment.demo.guest import wait_login
from deployment.demo.tenant import Tenant
from deployment.testbed.host import Host
from tests.e2e.cloud import eventually
from tests.e2e.network import ways_out
from tests.e2e.network.guests import create, delete_named, vxlan
from tests.e2e.testbed import states
from tests.e2e.testbed.guests import BOOT_TIMEOUT_S
from tests.e2e.testbed.processes import agents
from tests.harness.disks import sparse_qcow2
from tests.testbed.testbed import Testbed

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(900),
]

# As many bindings as guests times networks; more guests that boot would be more than a small machine can emulate.
GUESTS, NETWORKS, BOOTING = 10, 5, 3
KILLS = 2
# A host's net-agent dies when so many of its fifteen ports or so are there.
_AMID = 2
# For the hosts to answer as they do on a quiet machine: a hop that takes too long to look at is unknown.
_WELL_S = 90.0
# All that the diagnosis finds of a guest that does not boot.
_SILENT = {("address", "GUEST_WITHOUT_ADDRESS")}


@dataclass(frozen=True, slots=True)
class Bound:
    """A guest with a NIC on each network. `boots`: else its disk is empty, and its firmware finds nothing to start."""

    instance: Instance
    host: Host
    boots: bool


async def test_fifty_bindings_amid_killed_agents_converge(testbed: Testbed, operated: Tenant, tmp_path: Path) -> None:
    async with _networks(operated) as networks:
        try:
            guests = await _bound_amid_kills(testbed, operated, networks, tmp_path)
            await states.all_up(testbed)
            for host in testbed.hosts:
                await _until_it_has(testbed, host, [each.instance for each in guests if each.host is host], networks)
            booting = [testbed.inside(each.instance) for each in guests if each.boots]
            await asyncio.gather(*(wait_login(each, BOOT_TIMEOUT_S) for each in booting))
            await asyncio.gather(*(_are_well(testbed, [it for it in guests if it.host is on]) for on in testbed.hosts))
        finally:
            await delete_named(operated, "amid")

        async def nothing_left() -> bool:
            left = [await _taps(testbed, host) | await _services(testbed, host) for host in testbed.hosts]
            return not any(left)

        await ways_out.until(nothing_left, "hosts without anything of the fifty")


@asynccontextmanager
async def _networks(tenant: Tenant) -> AsyncIterator[list[Network]]:
    async with AsyncExitStack() as stack:
        made = [vxlan(tenant.user, f"amid-{n}", f"10.70.{n}.0/24") for n in range(NETWORKS)]
        yield [(await stack.enter_async_context(each))[0] for each in made]


async def _bound_amid_kills(
    testbed: Testbed, tenant: Tenant, networks: Collection[Network], folder: Path
) -> Sequence[Bound]:
    """All asked for at once, wherever the scheduler likes, while the agents of all hosts are killed."""
    nothing = await tenant.user.images.upload(
        await tenant.user.images.create("nothing"), sparse_qcow2(folder / "nothing.qcow2", size_gib=1)
    )
    nics = [InstanceNic(network=network.name) for network in networks]

    async def bound(number: int) -> Bound:
        boots = number < BOOTING
        instance = await create(tenant if boots else replace(tenant, image=nothing), f"amid-{number}", nics)
        [host] = [host for host in testbed.hosts if host.name == last_segment(instance.host)]
        return Bound(instance, host, boots)

    async with asyncio.TaskGroup() as group:
        killing = [group.create_task(_killed_amid(testbed, host)) for host in testbed.hosts]
        binding = [group.create_task(bound(number)) for number in range(GUESTS)]
    guests = [task.result() for task in binding]
    assert sum(len(each.instance.nics) for each in guests) == GUESTS * NETWORKS
    # Of a host by itself that can't be said: those that could not be bound in time are others' in the end.
    at = [task.result() for task in killing]
    assert sum(at) < GUESTS * NETWORKS, f"the hosts had {at} taps already when their agents were killed"
    return guests


async def _killed_amid(testbed: Testbed, host: Host) -> int:
    """How many taps it had when its agent was first killed; the next one is killed as soon as it is there."""
    at = 0

    async def some() -> bool:
        nonlocal at
        at = len(await _taps(testbed, host))
        return at >= _AMID

    await ways_out.until(some, f"{_AMID} taps on {host.name}", timeout_s=BOOT_TIMEOUT_S)
    for _ in range(KILLS):
        former = agents(host, "net")
        assert len(former) == 1, former
        await kill(*former, tree=False)
        await eventually(lambda former=former: {*agents(host, "net")} - {*former}, "another net-agent")  # type: ignore[misc]
    return at


async def _until_it_has(
    testbed: Testbed, host: Host, instances: Collection[Instance], networks: Collection[Network]
) -> None:
    """Just what these guests need: a host that was given up has to be told so first."""
    taps = {tap_device(last_segment(nic.port)) for instance in instances for nic in instance.nics}
    services = {*map(_service, networks)} if instances else set[str]()

    async def just_that() -> bool:
        return (await _taps(testbed, host), await _services(testbed, host)) == (taps, services)

    await ways_out.until(just_that, f"{host.name} with {len(taps)} ports")


async def _taps(testbed: Testbed, host: Host) -> set[str]:
    return {name for name in await testbed.links(host.name) if name.startswith("tap")}


async def _services(testbed: Testbed, host: Host) -> set[str]:
    """Namespaces that answer guests."""
    lines = (await testbed.output(host.name, "ip", "netns", "list")).splitlines()
    return {name for line in lines if (name := line.split()[0]).startswith("qdhcp-")}


def _service(network: Network) -> str:
    return dhcp_namespace(last_segment(network.name))


async def _are_well(testbed: Testbed, guests: Collection[Bound]) -> None:
    """So they are by the cloud's own diagnosis of all their ports, one guest after the other."""
    for guest in guests:
        wanted = {last_segment(nic.port): set[tuple[str, str]]() for nic in guest.instance.nics}
        if not guest.boots:
            wanted = dict.fromkeys(wanted, _SILENT)
        found: dict[str, set[tuple[str, str]]] = {}
        try:
            async with asyncio.timeout(_WELL_S):
                while (found := await _not_well(testbed, guest.instance)) != wanted:  # noqa: ASYNC110
                    await asyncio.sleep(0.5)
        except TimeoutError as error:
            raise AssertionError(f"{guest.instance.display_name} on {guest.host.name}: {found}") from error


async def _not_well(testbed: Testbed, instance: Instance) -> dict[str, set[tuple[str, str]]]:
    """By port: names of the hops that are not as they should be, and why."""
    async with testbed.cloud.admin() as admin:
        hops = (await admin.diagnosis.diagnose(instance)).hops
    found: dict[str, set[tuple[str, str]]] = {hop.port: set() for hop in hops}
    for hop in hops:
        if hop.state in (HOP_STATE_BROKEN, HOP_STATE_UNKNOWN):
            found[hop.port].add((hop.name, hop.reason))
    return found
