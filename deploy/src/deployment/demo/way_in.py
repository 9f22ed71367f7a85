"""How somebody in the Internet gets to the demo's guest: an external network, a router, a floating IP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cirra.compute.v1.compute_pb2 import Instance
from cirra.network.v1.floating_ip_pb2 import FloatingIp
from cirra.network.v1.network_pb2 import NETWORK_TYPE_FLAT, Network
from cirra.network.v1.router_pb2 import Router
from cirra_sdk import AsyncClient
from deployment.demo.tenant import Tenant
from deployment.testbed import plan

_EXTERNAL = "internet"
# Of the provider's addresses; the office has .200.
_POOL = ("203.0.113.50", "203.0.113.99")

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class WayIn:
    """The tenant's part of it; the external network is the cloud's, and stays for the next demo."""

    tenant: Tenant
    external: Network
    router: Router

    async def give(self, instance: Instance, tell: Tell) -> FloatingIp:
        floating = await self.tenant.user.floating_ips.create(self.external, port=instance.nics[0].port)
        tell(f"floating IP {floating.floating_ip_address}")
        return floating

    async def remove(self, floating: FloatingIp) -> None:
        user = self.tenant.user
        await user.floating_ips.delete(floating)
        async for subnet in user.subnets.list(network=self.tenant.network.name):
            await user.routers.remove_interface(self.router, subnet)
        await user.routers.delete(self.router)


async def make_way_in(admin: AsyncClient, tenant: Tenant, tell: Tell) -> WayIn:
    """Raises CirraApiError."""
    external = await _external_network(admin, tell)
    router = await tenant.user.routers.create(tenant.name, external_network=external)
    async for subnet in tenant.user.subnets.list(network=tenant.network.name):
        await tenant.user.routers.add_interface(router, subnet)
    tell(f"router {router.uid}, out to {external.display_name}")
    return WayIn(tenant, external, router)


async def _external_network(admin: AsyncClient, tell: Tell) -> Network:
    """The one on the provider's segment, of a former demo or of anybody's; else a new one."""
    async for network in admin.networks.list():
        if network.external and network.physical_network == plan.PHYSICAL_NETWORK:
            return network
    external = await admin.networks.create(
        _EXTERNAL, type=NETWORK_TYPE_FLAT, physical_network=plan.PHYSICAL_NETWORK, external=True
    )
    [v4, *_] = plan.OUTSIDE
    await admin.subnets.create(
        _EXTERNAL,
        network=external,
        cidr=str(v4.network),
        gateway_ip=str(v4.ip),
        allocation_pools=[_POOL],
        no_dhcp=True,
    )
    tell(f"external network {external.uid} on {plan.PHYSICAL_NETWORK}, {_POOL[0]} to {_POOL[1]}")
    return external
