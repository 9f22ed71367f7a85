"""Addresses that guests make themselves, of their MAC addresses (RFC 4862, section 5.5.3; EUI-64: RFC 4291)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from ipaddress import IPv6Network
from uuid import UUID

from cirra.network.v1 import network_pb2 as public
from conductor.network.addresses import Address
from conductor.network.network import Network, address_scope
from conductor.network.port import Port
from conductor.network.port_notices import Tell, tell_hosts
from conductor.network.port_terms import PortTerms
from conductor.network.router import router_scope
from conductor.network.subnet import Subnet
from core import eui64
from core.context import beside_the_request
from core.repository import Repository, again_on_conflict


def slaac_address(subnet: Subnet, mac_address: str) -> Address:
    """The one that a guest with this MAC address makes in a subnet with SLAAC."""
    assert isinstance(subnet.cidr, IPv6Network)
    return eui64.address_of_mac(subnet.cidr, mac_address)


def with_self_made(port: Port, network: Network) -> PortTerms:
    """The port's terms with an address of each of its network's subnets with SLAAC."""
    had = {fixed.subnet for fixed in port.fixed_ips}
    lacking = [
        public.FixedIp(subnet=subnet.id, ip_address=str(slaac_address(subnet, port.mac_address)))
        for subnet in network.subnets.values()
        if subnet.slaac and subnet.id not in had
    ]
    return replace(port.terms, fixed_ips=(*port.terms.fixed_ips, *lacking))


async def take_back(repository: Repository, network: Network, subnet_id: str, tell: Tell) -> None:
    """Before a subnet with SLAAC goes: ports lose their addresses of it, which nobody asked for.

    A port with no other keeps it, and so its subnet. If the subnet stays after all, the keeper gives them again.
    """
    if not network.subnet(subnet_id).slaac or await repository.log.unique_keys(router_scope(subnet_id)):
        return

    async def once(port_id: str) -> None:
        port = await repository.find(Port, UUID(port_id))
        if port is None or port.deleted:
            return
        kept = tuple(fixed for fixed in port.fixed_ips if fixed.subnet != subnet_id)
        if kept:
            port.update(replace(port.terms, fixed_ips=kept))
            await repository.save(port)
            await tell_hosts(port, tell)

    # The request is for the subnet's deletion, and is known by that.
    with beside_the_request():
        for owner in sorted(set((await repository.log.unique_keys(address_scope(subnet_id))).values())):
            await again_on_conflict(partial(once, owner))
