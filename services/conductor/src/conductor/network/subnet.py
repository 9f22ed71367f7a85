"""The subnet: a part of its network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network

from cirra.agent.v1 import desired_pb2 as agent
from cirra.agent.v1 import fabric_pb2 as fabric
from cirra.network.v1 import events_pb2 as pb
from cirra.network.v1 import network_pb2 as public
from conductor.fields import Fields
from conductor.network.addresses import (
    Address,
    Pool,
    Range,
    SubnetPlan,
    checked_host_routes,
    checked_nameservers,
    is_slaac,
    plan_pools,
    plan_subnet,
)

UPDATABLE = ("display_name", "allocation_pools", "dns_nameservers", "host_routes", "no_dhcp")


@dataclass(frozen=True, slots=True)
class Subnet:
    """`dhcp` answers DHCP and metadata on every host; it and the gateway are given to no port.

    `version`: of the network, when the subnet last changed.
    """

    id: str
    display_name: str
    cidr: Range
    gateway: Address | None
    dhcp: Address
    pools: tuple[Pool, ...]
    dns_nameservers: tuple[str, ...]
    no_dhcp: bool = False
    # (destination, next hop)
    host_routes: tuple[tuple[str, str], ...] = ()
    version: int = 0

    @property
    def slaac(self) -> bool:
        """Guests make their addresses of it themselves, each of its MAC address."""
        return is_slaac(self.cidr, no_dhcp=self.no_dhcp)

    @property
    def plan(self) -> SubnetPlan:
        return SubnetPlan(self.cidr, self.gateway, self.dhcp, self.pools)

    @property
    def reserved(self) -> frozenset[Address]:
        """What is given to no port."""
        return frozenset({self.dhcp} if self.gateway is None else {self.dhcp, self.gateway})

    def spec(self) -> agent.SubnetSpec:
        return agent.SubnetSpec(
            subnet_id=self.id,
            cidr=str(self.cidr),
            gateway_ip=_text(self.gateway),
            dhcp_ip=str(self.dhcp),
            dns_nameservers=self.dns_nameservers,
            host_routes=[fabric.Route(destination=to, next_hop=by) for to, by in self.host_routes],
            no_dhcp=self.no_dhcp,
        )

    @classmethod
    def of(cls, event: pb.SubnetCreated, version: int) -> Subnet:
        return cls(
            id=event.subnet_id,
            display_name=event.display_name,
            cidr=ip_network(event.cidr),
            gateway=ip_address(event.gateway_ip) if event.gateway_ip else None,
            dhcp=ip_address(event.dhcp_ip),
            pools=_pools(event.allocation_pools),
            dns_nameservers=tuple(event.dns_nameservers),
            no_dhcp=event.no_dhcp,
            host_routes=_routes(event.host_routes),
            version=version,
        )

    def after(self, event: pb.SubnetUpdated, version: int) -> Subnet:
        """As it is once the event has happened."""
        paths = event.update_mask.paths
        return replace(
            self,
            version=version,
            display_name=event.display_name if "display_name" in paths else self.display_name,
            pools=_pools(event.allocation_pools) if "allocation_pools" in paths else self.pools,
            dns_nameservers=tuple(event.dns_nameservers) if "dns_nameservers" in paths else self.dns_nameservers,
            host_routes=_routes(event.host_routes) if "host_routes" in paths else self.host_routes,
            no_dhcp=event.no_dhcp if "no_dhcp" in paths else self.no_dhcp,
        )


def created(
    network_id: str, project_id: str, subnet_id: str, wanted: public.Subnet, siblings: Sequence[Range]
) -> pb.SubnetCreated:
    """The event of a new subnet. Raises InvalidArgument for what doesn't fit, also beside the network's others."""
    fields = Fields("subnet.")
    fields.title("display_name", wanted.display_name, required=False)
    checked_nameservers(fields, "dns_nameservers", wanted.dns_nameservers)
    fields.check()
    plan = plan_subnet(wanted, siblings)
    slaac = is_slaac(plan.cidr, no_dhcp=wanted.no_dhcp)
    checked_host_routes(fields, "host_routes", wanted.host_routes, plan, slaac=slaac)
    fields.check()
    return pb.SubnetCreated(
        project_id=project_id,
        network_id=network_id,
        subnet_id=subnet_id,
        display_name=wanted.display_name,
        cidr=str(plan.cidr),
        gateway_ip=_text(plan.gateway),
        allocation_pools=_public_pools(plan.pools),
        dns_nameservers=wanted.dns_nameservers,
        dhcp_ip=str(plan.dhcp),
        no_dhcp=wanted.no_dhcp,
        host_routes=wanted.host_routes,
    )


def updated(network_id: str, subnet: Subnet, wanted: public.Subnet, paths: Sequence[str]) -> pb.SubnetUpdated | None:
    """The event of what shall be otherwise; None when all is so already. Raises InvalidArgument."""
    fields = Fields("subnet.")
    if "display_name" in paths:
        fields.title("display_name", wanted.display_name, required=False)
    if "dns_nameservers" in paths:
        checked_nameservers(fields, "dns_nameservers", wanted.dns_nameservers)
    if "host_routes" in paths:
        checked_host_routes(fields, "host_routes", wanted.host_routes, subnet.plan, slaac=subnet.slaac)
    if "no_dhcp" in paths and wanted.no_dhcp != subnet.no_dhcp and subnet.cidr.version == 6:
        fields.refuse(
            "no_dhcp", "whether guests make their IPv6 addresses themselves stays as it is: make another subnet"
        )
    fields.check()
    event = pb.SubnetUpdated(network_id=network_id, subnet_id=subnet.id)
    for path in ("display_name", "no_dhcp"):
        if path in paths and getattr(wanted, path) != getattr(subnet, path):
            event.update_mask.paths.append(path)
            setattr(event, path, getattr(wanted, path))
    if "allocation_pools" in paths:
        pools = plan_pools(wanted, subnet.plan, slaac=subnet.slaac)
        if pools != subnet.pools:
            event.update_mask.paths.append("allocation_pools")
            event.allocation_pools.extend(_public_pools(pools))
    if "dns_nameservers" in paths and tuple(wanted.dns_nameservers) != subnet.dns_nameservers:
        event.update_mask.paths.append("dns_nameservers")
        event.dns_nameservers.extend(wanted.dns_nameservers)
    if "host_routes" in paths and _routes(wanted.host_routes) != subnet.host_routes:
        event.update_mask.paths.append("host_routes")
        event.host_routes.extend(wanted.host_routes)
    return event if event.update_mask.paths else None


def _pools(given: Sequence[public.AllocationPool]) -> tuple[Pool, ...]:
    return tuple(Pool(ip_address(pool.start), ip_address(pool.end)) for pool in given)


def _public_pools(pools: Sequence[Pool]) -> list[public.AllocationPool]:
    return [public.AllocationPool(start=str(pool.first), end=str(pool.last)) for pool in pools]


def _routes(given: Sequence[public.HostRoute]) -> tuple[tuple[str, str], ...]:
    return tuple((route.destination, route.next_hop) for route in given)


def _text(address: Address | None) -> str:
    return "" if address is None else str(address)
