"""All namespaces of routers on this host, with what leads into them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from net_agent.drivers.linux.routing import names
from net_agent.drivers.linux.routing.connections import Connection, stale_in_external, stale_in_router
from net_agent.drivers.linux.routing.desired import External, Routing, externals, translations
from net_agent.drivers.linux.routing.external_plan import clashes, external_plan
from net_agent.drivers.linux.routing.legs import Leg, Pair
from net_agent.drivers.linux.routing.names import LinkAddresses
from net_agent.drivers.linux.routing.plan import Announcement, NamespacePlan
from net_agent.drivers.linux.routing.router_plan import advertised, router_plan
from net_agent.model import Router


@dataclass(frozen=True, slots=True)
class Translated:
    """What a namespace's rules make of connections; one that these wouldn't make is stale.

    inwards: floating → fixed, outwards: fixed → floating (a router's); links, hosts: an external namespace's.
    """

    inwards: tuple[tuple[IPv4Address, IPv4Address], ...] = ()
    links: frozenset[IPv4Address] | None = None
    hosts: frozenset[IPv4Address] = frozenset()

    def stale(self) -> Callable[[Connection], bool]:
        if self.links is not None:
            return stale_in_external(self.links, self.hosts)
        outwards: dict[IPv4Address, IPv4Address] = {}
        for floating, fixed in sorted(self.inwards):
            outwards.setdefault(fixed, floating)
        return stale_in_router(dict(self.inwards), outwards)


@dataclass(frozen=True, slots=True)
class Space:
    """A namespace. owners: the routers that have need of it.

    pairs: those that begin here and end in a router's namespace. problems: router id → what can't be had.
    """

    plan: NamespacePlan
    owners: tuple[str, ...]
    legs: tuple[Leg, ...]
    pairs: tuple[Pair, ...]
    translated: Translated
    advertised: tuple[Announcement, ...]
    problems: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.plan.name

    @property
    def router_id(self) -> str | None:
        """None: it is an external network's."""
        return self.owners[0] if self.name.startswith(names.ROUTER_PREFIX) else None


def layout(desired: Routing, links: Mapping[str, LinkAddresses], path: Callable[[str], Path]) -> tuple[Space, ...]:
    """links: of the routers with a way out. path: where a namespace is bound, by its name.

    Routers first: pairs end in them.
    """
    routers = [_router_space(router, desired, links.get(router.router_id), path) for router in desired.routers]
    outside = externals(desired, links)
    return (*routers, *(_external_space(network_id, outside[network_id], path) for network_id in sorted(outside)))


def _router_space(router: Router, desired: Routing, link: LinkAddresses | None, path: Callable[[str], Path]) -> Space:
    plan = router_plan(router, desired, link)
    legs = tuple(
        Leg(
            outer=names.outer_device(router.router_id, each.subnet_id),
            inner=names.inner_device(each.subnet_id),
            namespace=path(plan.name),
            bridge=each.bridge,
            mtu=each.mtu,
            mac_address=each.mac_address,
            role=names.ROUTER_ROLE,
            owner=router.router_id,
        )
        for each in router.interfaces
    )
    return Space(
        plan=plan,
        owners=(router.router_id,),
        legs=legs,
        pairs=(),
        translated=Translated(inwards=translations(desired, router)),
        advertised=advertised(router, desired),
        problems=_problems(router),
    )


def _problems(router: Router) -> dict[str, str]:
    gateway = router.gateway
    if gateway is not None and not gateway.host_mac_address:
        missing = f"this host has no place on network {gateway.network_id}: nothing gets out"
        return {router.router_id: missing}
    if gateway is not None and gateway.snat and not any(each.version == 4 for each in gateway.host_addresses):
        missing = f"this host has no IPv4 address on network {gateway.network_id}: nothing is translated to it"
        return {router.router_id: missing}
    return {}


def _external_space(network_id: str, external: External, path: Callable[[str], Path]) -> Space:
    plan = external_plan(external)
    gateway = external.gateway
    leg = Leg(
        outer=names.external_leg(network_id),
        inner=names.EXTERNAL_DEVICE,
        namespace=path(plan.name),
        bridge=gateway.bridge,
        mtu=gateway.mtu,
        mac_address=gateway.host_mac_address,
        role=names.EXTERNAL_ROLE,
        owner=network_id,
    )
    pairs = tuple(
        Pair(
            outer=names.link_device(tenant.router_id),
            inner=names.GATEWAY_DEVICE,
            router=path(names.router_namespace(tenant.router_id)),
            mtu=gateway.mtu,
        )
        for tenant in external.tenants
    )
    return Space(
        plan=plan,
        owners=tuple(tenant.router_id for tenant in external.tenants),
        legs=(leg,) if gateway.host_mac_address else (),
        pairs=pairs,
        translated=Translated(
            links=frozenset(tenant.link.inner.ip for tenant in external.tenants),
            hosts=frozenset(each.ip for each in gateway.host_addresses if isinstance(each.ip, IPv4Address)),
        ),
        advertised=(),
        problems=clashes(external),
    )
