"""The router: joins subnets with one another, and with the outside. Its interfaces are parts of it, not ports."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from uuid import UUID

from cirra.network.v1 import events_pb2 as pb
from cirra.network.v1 import router_pb2 as public
from conductor import quotas, references
from conductor.fields import Fields
from conductor.network.network import address_scope
from conductor.network.port import mac_scope
from conductor.network.routes import check_routes, leads_into
from conductor.requests import require_live
from core.aggregate import Aggregate, applies, constrains
from core.errors import FailedPrecondition, FieldViolation, InvalidArgument, NotFound
from core.eventlog.types import Constraint, UniqueClaim, UniqueRelease

MAX_INTERFACES = 64


def router_scope(subnet_id: str) -> str:
    """The unique scope whose keys are the routers on a subnet."""
    return f"router-interface/{subnet_id}"


def through(router_id: str, way: str) -> str:
    """The key in `FLOATING_IPS_THROUGH` of a way through a router: in by an external network, out by a subnet."""
    return f"{router_id}/{way}"


@dataclass(frozen=True, slots=True)
class Interface:
    """`at_gateway`: its address is the subnet's gateway_ip."""

    network_id: str
    subnet_id: str
    cidr: IPv4Network | IPv6Network
    ip_address: str
    mac_address: str
    at_gateway: bool


@dataclass(frozen=True, slots=True)
class Gateway:
    """`cidrs`: of the external network, when it was set."""

    network_id: str
    enable_snat: bool
    cidrs: tuple[IPv4Network | IPv6Network, ...]


class Router(Aggregate, kind="router"):
    """`interfaces`: by subnet, in the order in which they were added."""

    project_id: str = ""
    display_name: str = ""
    interfaces: dict[str, Interface] = field(default_factory=dict)
    routes: list[public.StaticRoute] = field(default_factory=list)
    gateway: Gateway | None = None
    deleted: bool = False

    @property
    def resource_name(self) -> str:
        return f"projects/{self.project_id}/routers/{self.id}"

    # --- decisions

    @classmethod
    def create(cls, router_id: UUID, wanted: public.Router, *, project_id: str) -> Router:
        """Without interfaces and gateway. Raises InvalidArgument."""
        fields = Fields("router.")
        fields.title("display_name", wanted.display_name)
        for name in ("interfaces", "routes"):
            if getattr(wanted, name):
                fields.refuse(name, "a router is made without: add them to it then")
        fields.check()
        router = cls.new(router_id)
        router.record(pb.RouterCreated(project_id=project_id, display_name=wanted.display_name))
        return router

    def update(self, wanted: public.Router, paths: Sequence[str]) -> None:
        """Sets what `paths` name. Raises InvalidArgument."""
        require_live(self)
        fields = Fields("router.")
        event = pb.RouterUpdated()
        if "display_name" in paths:
            fields.title("display_name", wanted.display_name)
            event.display_name = wanted.display_name
        if "routes" in paths:
            check_routes(fields, wanted.routes, list(self._ranges()), self._addresses(), has_gateway=bool(self.gateway))
            event.routes.extend(wanted.routes)
        fields.check()
        event.update_mask.paths.extend(path for path in ("display_name", "routes") if path in paths)
        self.record(event)

    def add_interface(self, interface: Interface) -> None:
        """The address is the router's from now on.

        Raises FailedPrecondition for a subnet that overlaps others, InvalidArgument for one too many.
        """
        require_live(self)
        if interface.subnet_id in self.interfaces:
            raise FailedPrecondition(
                f"subnet: router {self.id} has an interface on {interface.subnet_id} already, with "
                f"{self.interfaces[interface.subnet_id].ip_address}",
                reason="SUBNET_ALREADY_ROUTED",
                remedy="remove that interface first, to give it another address",
                metadata={"field": "subnet"},
            )
        if len(self.interfaces) >= MAX_INTERFACES:
            raise InvalidArgument(FieldViolation("subnet", f"a router has at most {MAX_INTERFACES}: use another"))
        self._require_apart(interface.cidr, "subnet")
        self.record(
            pb.RouterInterfaceAdded(
                network_id=interface.network_id,
                subnet_id=interface.subnet_id,
                cidr=str(interface.cidr),
                ip_address=interface.ip_address,
                mac_address=interface.mac_address,
                at_gateway=interface.at_gateway,
            )
        )

    def remove_interface(self, subnet_id: str) -> None:
        """Refused by the log while a floating IP leads through it. Raises NotFound, FailedPrecondition for routes."""
        interface = require_live(self).interfaces.get(subnet_id)
        if interface is None:
            raise NotFound(
                f"router {self.id} has no interface on subnet {subnet_id}",
                remedy="`cirra router show` lists its interfaces",
                metadata={"field": "subnet"},
            )
        self._require_no_routes([interface.cidr], "interface")
        self.record(
            pb.RouterInterfaceRemoved(
                network_id=interface.network_id,
                subnet_id=subnet_id,
                ip_address=interface.ip_address,
                mac_address=interface.mac_address,
                at_gateway=interface.at_gateway,
            )
        )

    def set_gateway(self, network_id: str, cidrs: Iterable[IPv4Network | IPv6Network], *, enable_snat: bool) -> None:
        """Out by this external network, whose ranges are `cidrs`. What is so already is no event."""
        require_live(self)
        if self.gateway is not None and self.gateway.network_id == network_id:
            if self.gateway.enable_snat != enable_snat:
                self.record(pb.RouterSnatSet(enable_snat=enable_snat))
            return
        ranges = list(cidrs)
        for interface in self.interfaces.values():
            for cidr in ranges:
                if _overlap(interface.cidr, cidr):
                    raise _overlapping(cidr, interface.cidr, "external_gateway.network")
        if any(ip_network(route.destination).prefixlen == 0 for route in self.routes):
            raise FailedPrecondition(
                f"external_gateway: router {self.id} has a static default route",
                reason="DEFAULT_ROUTE_SET",
                remedy="remove that route: the gateway is the default route",
                metadata={"field": "external_gateway"},
            )
        if self.gateway is not None:
            self.clear_gateway()
        self.record(
            pb.RouterGatewaySet(network_id=network_id, enable_snat=enable_snat, cidrs=[str(cidr) for cidr in ranges])
        )

    def clear_gateway(self) -> None:
        """Refused by the log while a floating IP leads through it. What is so already is no event."""
        require_live(self)
        if self.gateway is not None:
            self._require_no_routes(self.gateway.cidrs, "gateway")
            self.record(pb.RouterGatewayCleared(network_id=self.gateway.network_id))

    def delete(self) -> None:
        """With its gateway. Raises NotFound when deleted, FailedPrecondition while it has interfaces."""
        require_live(self)
        if self.interfaces:
            raise FailedPrecondition(
                f"router {self.id} is in use: it has interfaces on {', '.join(self.interfaces)}",
                reason="ROUTER_IN_USE",
                remedy="remove its interfaces first",
                metadata={"users": str(len(self.interfaces))},
            )
        if self.gateway is not None:
            self.record(pb.RouterGatewayCleared(network_id=self.gateway.network_id))
        self.record(pb.RouterDeleted(project_id=self.project_id))

    def _ranges(self) -> Iterator[IPv4Network | IPv6Network]:
        """Where its next hops may be."""
        yield from (interface.cidr for interface in self.interfaces.values())
        yield from self.gateway.cidrs if self.gateway else ()

    def _addresses(self) -> frozenset[str]:
        return frozenset(interface.ip_address for interface in self.interfaces.values())

    def _require_apart(self, cidr: IPv4Network | IPv6Network, name: str) -> None:
        for other in self._ranges():
            if _overlap(cidr, other):
                raise _overlapping(cidr, other, name)

    def _require_no_routes(self, ranges: Sequence[IPv4Network | IPv6Network], part: str) -> None:
        for route in self.routes:
            if leads_into(route, ranges):
                raise FailedPrecondition(
                    f"the {part} is in use: the route to {route.destination} leads to {route.next_hop} through it",
                    reason=f"ROUTER_{part.upper()}_IN_USE",
                    remedy="remove the route first",
                    metadata={"destination": route.destination},
                )

    # --- what happened

    @applies(pb.RouterCreated)
    def _created(self, event: pb.RouterCreated) -> None:
        self.project_id, self.display_name = event.project_id, event.display_name

    @applies(pb.RouterUpdated)
    def _updated(self, event: pb.RouterUpdated) -> None:
        if "display_name" in event.update_mask.paths:
            self.display_name = event.display_name
        if "routes" in event.update_mask.paths:
            self.routes = list(event.routes)

    @applies(pb.RouterInterfaceAdded)
    def _interface_added(self, event: pb.RouterInterfaceAdded) -> None:
        self.interfaces[event.subnet_id] = Interface(
            network_id=event.network_id,
            subnet_id=event.subnet_id,
            cidr=ip_network(event.cidr),
            ip_address=event.ip_address,
            mac_address=event.mac_address,
            at_gateway=event.at_gateway,
        )

    @applies(pb.RouterInterfaceRemoved)
    def _interface_removed(self, event: pb.RouterInterfaceRemoved) -> None:
        del self.interfaces[event.subnet_id]

    @applies(pb.RouterGatewaySet)
    def _gateway_set(self, event: pb.RouterGatewaySet) -> None:
        self.gateway = Gateway(event.network_id, event.enable_snat, tuple(ip_network(cidr) for cidr in event.cidrs))

    @applies(pb.RouterSnatSet)
    def _snat_set(self, event: pb.RouterSnatSet) -> None:
        assert self.gateway is not None
        self.gateway = Gateway(self.gateway.network_id, event.enable_snat, self.gateway.cidrs)

    @applies(pb.RouterGatewayCleared)
    def _gateway_cleared(self, event: pb.RouterGatewayCleared) -> None:
        self.gateway = None

    @applies(pb.RouterDeleted)
    def _deleted(self, event: pb.RouterDeleted) -> None:
        self.deleted = True


def _overlap(one: IPv4Network | IPv6Network, other: IPv4Network | IPv6Network) -> bool:
    return one.version == other.version and one.overlaps(other)


def _overlapping(cidr: IPv4Network | IPv6Network, other: IPv4Network | IPv6Network, name: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"{name}: {cidr} overlaps {other}, which the router is on already",
        reason="SUBNETS_OVERLAP",
        remedy="use another router, or a subnet with another range",
        metadata={"field": name},
    )


@constrains(pb.RouterCreated)
def _begins(router_id: UUID, event: pb.RouterCreated) -> Iterator[Constraint]:
    yield quotas.usage("routers", event.project_id, 1)


@constrains(pb.RouterDeleted)
def _ends(router_id: UUID, event: pb.RouterDeleted) -> Iterator[Constraint]:
    yield quotas.usage("routers", event.project_id, -1)


@constrains(pb.RouterInterfaceAdded)
def _interface_begins(router_id: UUID, event: pb.RouterInterfaceAdded) -> Iterator[Constraint]:
    owner = str(router_id)
    yield references.used(references.SUBNET_ROUTERS, event.subnet_id)
    yield UniqueClaim(router_scope(event.subnet_id), owner, owner)
    if event.at_gateway:
        # The subnet has kept it free for whoever comes first.
        yield UniqueRelease(address_scope(event.subnet_id), event.ip_address, event.subnet_id)
    yield UniqueClaim(address_scope(event.subnet_id), event.ip_address, owner)
    yield UniqueClaim(mac_scope(event.network_id), event.mac_address, owner)
    yield references.opened(references.FLOATING_IPS_THROUGH, through(owner, event.subnet_id))


@constrains(pb.RouterInterfaceRemoved)
def _interface_ends(router_id: UUID, event: pb.RouterInterfaceRemoved) -> Iterator[Constraint]:
    owner = str(router_id)
    yield from references.gone(references.FLOATING_IPS_THROUGH, through(owner, event.subnet_id))
    yield references.given_up(references.SUBNET_ROUTERS, event.subnet_id)
    yield UniqueRelease(router_scope(event.subnet_id), owner, owner)
    yield UniqueRelease(address_scope(event.subnet_id), event.ip_address, owner)
    if event.at_gateway:
        yield UniqueClaim(address_scope(event.subnet_id), event.ip_address, event.subnet_id)
    yield UniqueRelease(mac_scope(event.network_id), event.mac_address, owner)


@constrains(pb.RouterGatewaySet)
def _gateway_begins(router_id: UUID, event: pb.RouterGatewaySet) -> Iterator[Constraint]:
    yield references.used(references.NETWORK_GATEWAYS, event.network_id)
    yield references.opened(references.FLOATING_IPS_THROUGH, through(str(router_id), event.network_id))


@constrains(pb.RouterGatewayCleared)
def _gateway_ends(router_id: UUID, event: pb.RouterGatewayCleared) -> Iterator[Constraint]:
    yield from references.gone(references.FLOATING_IPS_THROUGH, through(str(router_id), event.network_id))
    yield references.given_up(references.NETWORK_GATEWAYS, event.network_id)
