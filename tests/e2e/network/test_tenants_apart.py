"""Two tenants have chosen the same subnet and the same addresses, on the same hosts."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio

from cirra.compute.v1.compute_pb2 import InstanceNic
from cirra.network.v1.network_pb2 import Network
from deployment import guests as images
from deployment.demo.key import new_key
from deployment.demo.tenant import Tenant, make_tenant
from deployment.testbed.host import Host
from tests.e2e.network import ways_out
from tests.e2e.network.guests import Guest, answers, operator_of, running, vxlan
from tests.e2e.testbed.guests import delete_all
from tests.testbed.testbed import Testbed

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(600),
]

CIDR, ADDRESSES = "10.60.0.0/24", ("10.60.0.11", "10.60.0.12")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def neighbour(testbed: Testbed, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Tenant]:
    """Somebody else, with a project of his own."""
    public_key = new_key(tmp_path_factory.mktemp("neighbour") / "id", "neighbour")
    async with testbed.cloud.admin() as admin:
        made = await make_tenant(admin, images.build("tiny"), "tiny", public_key, print)
        yield await operator_of(admin, made)


async def test_tenants_with_the_same_addresses_are_apart(testbed: Testbed, operated: Tenant, neighbour: Tenant) -> None:
    tenants, hosts = (operated, neighbour), testbed.hosts[:2]
    async with (
        ways_out.external_network(testbed) as external,
        vxlan(operated.user, "same", CIDR) as (first, [first_subnet]),
        vxlan(neighbour.user, "same", CIDR) as (second, [second_subnet]),
        ways_out.router(operated.user, external, first_subnet),
        ways_out.router(neighbour.user, external, second_subnet),
        running(testbed, operated, "ours", *_places(hosts, first)) as ours,
        running(testbed, neighbour, "theirs", *_places(hosts, second)) as theirs,
    ):
        for pair in (ours, theirs):
            assert [guest.address for guest in pair] == [*ADDRESSES]
            await _each_is_told_of_itself(pair)
            for one, other in (pair, reversed(pair)):
                await answers(one, _who_is(other), _greeting(other))
        for tenant, guest in zip(tenants, (ours[0], theirs[0]), strict=True):
            await _is_reached_from_outside(testbed, tenant, external, guest)
        # Where one tenant has nobody any more, the other's guest is not met instead.
        await delete_all(neighbour, [theirs[1].instance])
        assert not await theirs[0].reaches(ADDRESSES[1])
        await ours[0].comes_to_reach(ADDRESSES[1])


def _places(hosts: Sequence[Host], network: Network) -> list[tuple[Host, InstanceNic]]:
    return [
        (host, InstanceNic(network=network.name, fixed_ip=address))
        for host, address in zip(hosts, ADDRESSES, strict=True)
    ]


async def _each_is_told_of_itself(guests: Sequence[Guest]) -> None:
    for guest in guests:
        told = json.loads(await guest.metadata("/openstack/latest/meta_data.json"))
        assert (told["uuid"], told["name"]) == (guest.instance.uid, guest.instance.display_name)


def _who_is(guest: Guest) -> str:
    return f"timeout 8 wget -q -O - http://{guest.address}/"


def _greeting(guest: Guest) -> str:
    """What a tiny guest's page says."""
    return f"hello from {guest.instance.hostname}"


async def _is_reached_from_outside(testbed: Testbed, tenant: Tenant, external: Network, guest: Guest) -> None:
    """By an address of its own, by which it is seen out there as well."""
    async with ways_out.floating_ip(tenant.user, external, guest.instance.nics[0].port) as floating:
        address = floating.floating_ip_address
        await ways_out.says(lambda: ways_out.from_outside(testbed, address), guest.instance.hostname)
        await answers(guest, ways_out.who_asks(), address)
