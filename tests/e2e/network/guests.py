"""Guests on hosts of one's choice, on networks that span them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import psutil

from cirra.compute.v1.compute_pb2 import Instance, InstanceNic
from cirra.identity.v1.identity_pb2 import ROLE_ADMIN, ROLE_MEMBER
from cirra.network.v1.network_pb2 import NETWORK_TYPE_VXLAN, Network, Subnet
from cirra_sdk import AsyncClient
from core.ids import last_segment
from deployment.demo.guest import HttpGuest, Output, wait_login
from deployment.demo.tenant import Tenant
from deployment.testbed.host import Host
from tests.e2e.network import ways_out
from tests.e2e.testbed.guests import BOOT_TIMEOUT_S, delete_all
from tests.testbed.testbed import Testbed

_QUOTAS = {"instances": 20, "vcpus": 40, "memory_mib": 16384, "networks": 20, "ports": 100}
METADATA = "http://169.254.169.254"
# From the guest's first NIC.
METADATA_IPV6 = "http://[fe80::a9fe:a9fe%eth0]"
# What serves a guest on its host, by what its command line holds: an agent that ends or hangs touches none of it.
_GUEST_SIDE = ("qemu-system", "dnsmasq", "net_agent.metadata_proxy")


@dataclass(frozen=True, slots=True)
class Guest:
    """`instance`: as an administrator saw it when it had booted."""

    instance: Instance
    host: Host
    inside: HttpGuest

    @property
    def address(self) -> str:
        return self.instance.nics[0].fixed_ip

    async def run(self, script: str, timeout_s: float = 60.0) -> str:
        """What a script that succeeds printed, without the last line's end."""
        output = await self.ended(script, timeout_s)
        assert output.code == 0, f"{self.instance.display_name}: {script}: {output}"
        return output.text.strip()

    async def ended(self, script: str, timeout_s: float = 60.0) -> Output:
        """Of a script that may fail, in a guest that is there: else nothing that it can't do would mean anything."""
        output = await self.inside.run(script, timeout_s)
        assert output.code is not None, f"{self.instance.display_name} itself: {script}: {output}"
        return output

    async def reaches(self, other: str) -> bool:
        """By one ping of a name or an address: so that one who is cut off is known soon."""
        return (await self.ended(f"ping -c 1 -W 2 {other}")).code == 0

    async def comes_to_reach(self, other: str) -> None:
        """Returns once it does: what should come is asked for with patience."""
        await ways_out.until(lambda: self.reaches(other), f"from {self.instance.display_name} to {other}")

    async def metadata(self, path: str) -> str:
        """What 169.254.169.254 answers; "": nothing, or that it can't."""
        told = await self.ended(f"timeout 8 wget -q -O - {METADATA}{path} 2>/dev/null")
        return told.text.strip() if told.code == 0 else ""


async def operator_of(admin: AsyncClient, tenant: Tenant) -> Tenant:
    """The tenant, with room for many guests; `user` is an operator, who is told hosts and chooses them."""
    name, password = f"{tenant.name}-operator", secrets.token_urlsafe(18)
    await admin.quotas.set(tenant.project, _QUOTAS)
    operator = await admin.users.create(name, password)
    await admin.users.grant_role(operator, ROLE_ADMIN)
    await admin.users.grant_role(operator, ROLE_MEMBER, tenant.project)
    return replace(tenant, user=admin.login_as(name, password, tenant.name))


async def boot(testbed: Testbed, tenant: Tenant, name: str, *places: tuple[Host, Network | InstanceNic]) -> list[Guest]:
    """One tiny guest for each place, all at once; `tenant.user` is an operator. They are called name-1, name-2, …"""
    return [*await asyncio.gather(*(_boot(testbed, tenant, f"{name}-{n}", *at) for n, at in enumerate(places, 1)))]


async def _boot(testbed: Testbed, tenant: Tenant, name: str, host: Host, place: Network | InstanceNic) -> Guest:
    nic = place if isinstance(place, InstanceNic) else InstanceNic(network=place.name)
    instance = await create(tenant, name, [nic], host)
    guest = Guest(instance, host, testbed.inside(instance))
    await wait_login(guest.inside, BOOT_TIMEOUT_S)
    return guest


async def create(tenant: Tenant, name: str, nics: Sequence[InstanceNic], host: Host | None = None) -> Instance:
    """ACTIVE on that host; None: on any. A port of one's own has its groups already."""
    user = tenant.user
    operation = await user.instances.create(
        name,
        flavor=tenant.flavor,
        image=tenant.image,
        nics=nics,
        availability_zone=f"nova:{host.name}" if host is not None else "",
        **({} if any(nic.port for nic in nics) else login_rules(tenant)),
    )
    await user.operations.wait(operation, timeout_s=BOOT_TIMEOUT_S)
    instance = await user.instances.get(operation.target)
    assert host is None or last_segment(instance.host) == host.name
    return instance


def login_rules(tenant: Tenant) -> dict[str, Any]:
    """Where ports have security groups, the one that lets somebody log in."""
    login = getattr(tenant, "security_group", None)
    return {"security_groups": [login]} if login is not None else {}


@asynccontextmanager
async def running(
    testbed: Testbed, tenant: Tenant, name: str, *places: tuple[Host, Network | InstanceNic]
) -> AsyncIterator[list[Guest]]:
    """`boot`, and their end."""
    try:
        yield await boot(testbed, tenant, name, *places)
    finally:
        await delete_named(tenant, name)


async def delete_named(tenant: Tenant, name: str) -> None:
    """All of the tenant's that are called name-…"""
    instances = [
        each
        async for each in tenant.user.instances.list()
        if each.display_name.startswith(f"{name}-") and tenant.project.name in each.name
    ]
    await delete_all(tenant, instances)


@asynccontextmanager
async def vxlan(user: AsyncClient, name: str, *cidrs: str) -> AsyncIterator[tuple[Network, list[Subnet]]]:
    """A tenant network that spans hosts; what is on it has to go before."""
    network = await user.networks.create(name, type=NETWORK_TYPE_VXLAN)
    subnets: list[Subnet] = []
    try:
        for cidr in cidrs:
            subnets.append(await user.subnets.create(f"{name}-{len(subnets)}", network=network, cidr=cidr))
        yield network, subnets
    finally:
        for subnet in subnets:
            await user.subnets.delete(subnet)
        await user.networks.delete(network)


def guest_side(host: Host) -> dict[int, str]:
    """Processes that serve guests of this host, by id: what they are."""
    found: dict[int, str] = {}
    for pid in host.processes().values():
        try:
            line = " ".join(psutil.Process(pid).cmdline())
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        if kind := next((kind for kind in _GUEST_SIDE if kind in line), None):
            found[pid] = kind
    return found


async def answers(guest: Guest, script: str, wanted: str) -> None:
    """Returns once a script in the guest prints that."""
    await ways_out.says(lambda: guest.inside.run(script), wanted)


async def all_reach_each_other(guests: Sequence[Guest]) -> None:
    """By address, once each has learnt of the others."""
    for one in guests:
        for other in guests:
            await one.comes_to_reach(other.address)
