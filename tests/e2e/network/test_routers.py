"""Routers and floating IPs with real guests on several hosts."""

from __future__ import annotations

import asyncio

import pytest

from cirra.compute.v1.compute_pb2 import Instance
from cirra.compute.v1.server_group_pb2 import SERVER_GROUP_POLICY_ANTI_AFFINITY
from cirra.network.v1.network_pb2 import Network, Subnet
from deployment.demo.guest import wait_login
from deployment.demo.tenant import Tenant
from tests.e2e.network import ways_out
from tests.e2e.testbed.guests import BOOT_TIMEOUT_S, delete_all
from tests.testbed.testbed import Testbed

pytestmark = [pytest.mark.root, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]


async def _boot(testbed: Testbed, tenant: Tenant, networks: list[Network], name: str) -> list[Instance]:
    """A guest on each of these networks, each on a host of its own."""
    user = tenant.user
    group = await user.server_groups.create(name, SERVER_GROUP_POLICY_ANTI_AFFINITY)

    async def boot(number: int, network: Network) -> Instance:
        operation = await user.instances.create(
            f"{name}-{number}",
            flavor=tenant.flavor,
            image=tenant.image,
            networks=[network],
            server_group=group,
            security_groups=[tenant.security_group],
        )
        await user.operations.wait(operation, timeout_s=BOOT_TIMEOUT_S)
        instance = await ways_out.instance_as_admin(testbed, operation.target)
        await wait_login(testbed.inside(instance), BOOT_TIMEOUT_S)
        return instance

    return [*await asyncio.gather(*(boot(number, network) for number, network in enumerate(networks, 1)))]


async def _subnet(tenant: Tenant, network: Network) -> Subnet:
    [subnet] = [each async for each in tenant.user.subnets.list(network=network.name)]
    return subnet


async def test_a_guest_gets_out_and_is_reached(testbed: Testbed, tenant: Tenant) -> None:
    user = tenant.user
    [instance] = await _boot(testbed, tenant, [tenant.network], "reached")
    guest, outside = testbed.inside(instance), ways_out.who_asks()
    async with (
        ways_out.external_network(testbed) as external,
        ways_out.router(user, external, await _subnet(tenant, tenant.network)),
    ):

        async def by_the_hosts_address() -> bool:
            return ways_out.is_a_hosts((await guest.run(outside)).text)

        await ways_out.until(by_the_hosts_address, "a way out")
        async with ways_out.floating_ip(user, external, instance.nics[0].port) as floating:
            address = floating.floating_ip_address
            await ways_out.says(lambda: ways_out.from_outside(testbed, address), instance.hostname)
            await ways_out.says(lambda: guest.run(outside), address)

        async def released() -> bool:
            return (await ways_out.from_outside(testbed, address)).code is None

        await ways_out.until(released, "the end of a floating IP")
        await ways_out.until(by_the_hosts_address, "a way out without it")
    await delete_all(tenant, [instance])


@pytest.mark.slow
async def test_floating_ips_move_between_hosts_and_neighbours_meet_there(testbed: Testbed, tenant: Tenant) -> None:
    user = tenant.user
    first, second = await _boot(testbed, tenant, [tenant.network] * 2, "moved")
    guests = [testbed.inside(first), testbed.inside(second)]
    async with (
        ways_out.external_network(testbed) as external,
        ways_out.router(user, external, await _subnet(tenant, tenant.network)),
        ways_out.floating_ip(user, external, first.nics[0].port) as floating,
    ):
        address = floating.floating_ip_address
        await ways_out.says(lambda: ways_out.from_outside(testbed, address), first.hostname)
        # To one's own, and to a neighbour's: on this host, and on the other.
        ask = f"timeout 8 wget -q -O - 'http://{address}/cgi-bin/sh?' --post-data hostname"
        for guest in guests:
            await ways_out.says(lambda guest=guest: guest.run(ask), first.hostname)  # type: ignore[misc]
        await user.floating_ips.associate(floating, second.nics[0].port, move=True)
        await ways_out.says(lambda: ways_out.from_outside(testbed, address), second.hostname)
        for guest in guests:
            await ways_out.says(lambda guest=guest: guest.run(ask), second.hostname)  # type: ignore[misc]
        await ways_out.says(lambda: guests[1].run(ways_out.who_asks()), address)
        for guest in guests:
            metadata = await guest.run("timeout 8 wget -q -O - http://169.254.169.254/latest/meta-data/instance-id")
            assert metadata.code == 0 and metadata.text.startswith("i-"), "with a floating IP as without"
    await delete_all(tenant, [first, second])
