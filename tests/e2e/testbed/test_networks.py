"""Guests of one tenant network on three hosts: they find each other by name, and reach each other through tunnels."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from cirra.compute.v1.compute_pb2 import Instance
from core.ids import last_segment
from deployment.demo.guest import wait_login
from deployment.demo.tenant import Tenant
from net_agent.drivers.linux.vxlan import vxlan_device
from tests.e2e.cloud import comes_true
from tests.e2e.testbed.guests import BOOT_TIMEOUT_S, boot_one_on_each, delete_all
from tests.testbed.testbed import Testbed

pytestmark = [pytest.mark.root, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def guests(testbed: Testbed, tenant: Tenant) -> AsyncIterator[list[Instance]]:
    """On a network of their own, of the type that a cloud with several hosts makes unless told: it spans them."""
    user = tenant.user
    network = await user.networks.create("spanning")
    subnet = await user.subnets.create("spanning", network=network, cidr="10.43.0.0/24")
    made = await boot_one_on_each(testbed, replace(tenant, network=network), "together")
    for instance in made:
        await wait_login(testbed.inside(instance), BOOT_TIMEOUT_S)
    yield made
    await delete_all(tenant, made)
    await user.subnets.delete(subnet.name)
    await user.networks.delete(network.name)


async def test_guests_of_three_hosts_reach_each_other_by_name(testbed: Testbed, guests: list[Instance]) -> None:
    assert len({instance.host for instance in guests}) == len(guests)
    for one in guests:
        for other in guests:

            async def reached(one: Instance = one, other: Instance = other) -> bool:
                asked = await testbed.inside(one).run(f"ping -c 1 -W 5 {other.display_name}")
                return asked.code == 0 and other.nics[0].fixed_ip in asked.text

            await comes_true(reached, f"from {one.display_name} to {other.display_name}")


async def test_they_do_so_through_tunnels(testbed: Testbed, guests: list[Instance]) -> None:
    for instance in guests:
        host, network = last_segment(instance.host), last_segment(instance.nics[0].network)
        links = await testbed.links(host)
        assert vxlan_device(network) in links
