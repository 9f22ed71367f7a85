"""What guests need to be in the world: an external network, routers, floating IPs; and how one looks at it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address

from cirra.compute.v1.compute_pb2 import Instance
from cirra.network.v1.floating_ip_pb2 import FloatingIp
from cirra.network.v1.network_pb2 import NETWORK_TYPE_FLAT, Network, Port, Subnet
from cirra.network.v1.router_pb2 import Router
from cirra_sdk import AsyncClient
from cirra_sdk.errors import FailedPrecondition
from deployment.demo.guest import HttpGuest, Output
from deployment.testbed import plan
from tests.testbed.testbed import Testbed

# From a change in the API to what packets do, where many want the processors.
EFFECT_TIMEOUT_S = 120.0
POOL = ("203.0.113.100", "203.0.113.149")


@asynccontextmanager
async def external_network(testbed: Testbed) -> AsyncIterator[Network]:
    """The provider's segment, with addresses to give away."""
    async with testbed.cloud.admin() as admin:
        network = await admin.networks.create(
            "outside", type=NETWORK_TYPE_FLAT, physical_network=plan.PHYSICAL_NETWORK, external=True
        )
        [v4, *_] = plan.OUTSIDE
        subnet = await admin.subnets.create(
            "outside",
            network=network,
            cidr=str(v4.network),
            gateway_ip=str(v4.ip),
            allocation_pools=[POOL],
            no_dhcp=True,
        )
        try:
            yield network
        finally:
            # Hosts give their addresses back a moment after the last router.
            await _when_free(lambda: admin.subnets.delete(subnet))
            await _when_free(lambda: admin.networks.delete(network))


async def _when_free(delete: Callable[[], Awaitable[None]]) -> None:
    deadline = time.monotonic() + EFFECT_TIMEOUT_S
    while True:
        try:
            return await delete()
        except FailedPrecondition:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)


@asynccontextmanager
async def router(user: AsyncClient, external: Network | str, *subnets: Subnet) -> AsyncIterator[Router]:
    """*external*: empty for one without a way out."""
    made = await user.routers.create("out", external_network=external)
    for subnet in subnets:
        await user.routers.add_interface(made, subnet)
    try:
        yield made
    finally:
        for subnet in subnets:
            await user.routers.remove_interface(made, subnet)
        await user.routers.delete(made)


@asynccontextmanager
async def floating_ip(user: AsyncClient, external: Network, port: Port | str) -> AsyncIterator[FloatingIp]:
    made = await user.floating_ips.create(external, port=port)
    try:
        yield made
    finally:
        await user.floating_ips.delete(made)


async def from_outside(testbed: Testbed, address: str, script: str = "hostname") -> Output:
    """What a tiny guest at this address says to somebody in the Internet."""
    return await HttpGuest("", address, onto=tuple(testbed.site.enter(plan.OUTSIDE_NAME))).run(script, 5.0)


async def until(look: Callable[[], Awaitable[bool]], what: str, timeout_s: float = EFFECT_TIMEOUT_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not await look():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s:g} s"
        await asyncio.sleep(0.1)


async def says(look: Callable[[], Awaitable[Output]], wanted: str) -> None:
    """Returns once what is looked at says so."""
    deadline = time.monotonic() + EFFECT_TIMEOUT_S
    while (seen := await look()).text.strip() != wanted:
        assert time.monotonic() < deadline, f"not {wanted!r} within {EFFECT_TIMEOUT_S:g} s: {seen}"
        await asyncio.sleep(0.1)


def who_asks(address: str = str(plan.WEB[0].ip)) -> str:
    """A script for a guest: by which address it is seen outside."""
    return f"timeout 8 wget -q -O - http://{address}/ip"


def is_a_hosts(address: str) -> bool:
    """Of those that the external network gives away."""
    try:
        return ip_address(POOL[0]) <= ip_address(address.strip()) <= ip_address(POOL[1])  # type: ignore[operator]
    except ValueError:
        return False


async def instance_as_admin(testbed: Testbed, name: str) -> Instance:
    """Members are not told hosts."""
    async with testbed.cloud.admin() as admin:
        return await admin.instances.get(name)
