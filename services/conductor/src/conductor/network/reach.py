"""From an external network to a port: which router leads there."""

from __future__ import annotations

from ipaddress import ip_address
from uuid import UUID

from cirra.network.v1.network_pb2 import FixedIp
from conductor.network.floating_ip import Target
from conductor.network.port import Port
from conductor.network.router import Router, router_scope
from core.errors import FailedPrecondition, FieldViolation, InvalidArgument
from core.repository import Repository


async def way_to(repository: Repository, port: Port, fixed_ip: str, network_id: str) -> Target:
    """How a floating IP of an external network leads to a port.

    `fixed_ip`: which of its addresses; empty: the only one. Raises InvalidArgument, and FailedPrecondition where there
    is no address, or no way.
    """
    fixed = _chosen(port, fixed_ip)
    routers = await _routers_between(repository, fixed.subnet, network_id)
    if not routers:
        raise FailedPrecondition(
            f"port: external network {network_id} is not reachable from subnet {fixed.subnet} of port {port.id}",
            reason="EXTERNAL_NETWORK_NOT_REACHABLE",
            remedy="add the subnet to a router (`cirra router add-interface`), and set that router's gateway to the "
            "network (`cirra router set-gateway`)",
            metadata={"field": "port", "subnet": fixed.subnet, "network": network_id},
        )
    # As Neutron does: rather the router that the guest sends everything to.
    best = min(
        routers,
        key=lambda router: (
            not router.interfaces[fixed.subnet].at_gateway,
            router.project_id != port.project_id,
            router.id,
        ),
    )
    return Target(str(port.id), fixed.ip_address, fixed.subnet, str(best.id))


def _chosen(port: Port, wanted: str) -> FixedIp:
    addresses = [fixed for fixed in port.fixed_ips if ip_address(fixed.ip_address).version == 4]
    if not addresses:
        raise FailedPrecondition(
            f"port: {port.id} has no IPv4 address to lead to",
            reason="PORT_HAS_NO_ADDRESS",
            remedy="choose a port with an IPv4 address",
            metadata={"field": "port"},
        )
    known = ", ".join(fixed.ip_address for fixed in addresses)
    if wanted:
        for fixed in addresses:
            if fixed.ip_address == wanted:
                return fixed
        raise InvalidArgument(FieldViolation("fixed_ip_address", f"{wanted!r} is not the port's: give one of {known}"))
    if len(addresses) > 1:
        raise InvalidArgument(FieldViolation("fixed_ip_address", f"the port has several: give one of {known}"))
    return addresses[0]


async def _routers_between(repository: Repository, subnet_id: str, network_id: str) -> list[Router]:
    found: list[Router] = []
    for router_id in await repository.log.unique_keys(router_scope(subnet_id)):
        router = await repository.load(Router, UUID(router_id))
        gateway = router.gateway
        if gateway is not None and gateway.network_id == network_id and subnet_id in router.interfaces:
            found.append(router)
    return found
