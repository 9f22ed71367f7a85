"""Object `router`: whole, for each host that has one of its networks, with what that host is on the way out."""

from __future__ import annotations

from collections.abc import Iterator

from cirra.agent.v1 import fabric_pb2 as fabric
from conductor.fabric.facts import Facts, InterfaceFacts, RouterFacts
from conductor.fabric.kind import Cell
from conductor.fabric.networks import network
from conductor.fabric.routers import because
from core.ids import bridge_device


class RouterKind:
    """Its object id is the router's."""

    name = "router"

    def affected(self, facts: Facts) -> Iterator[Cell]:
        yield from self._joined_or_parted(facts)
        for router_id in set(self._changed(facts)):
            for host in _hosts(facts, router_id):
                yield host, router_id
        for before, after in facts.host_gateways.changed():
            gateway = after or before
            assert gateway is not None
            for router in facts.routers_with_gateway.get(gateway.network_id):
                if facts.reasons_for_cause.get(gateway.host, because(router.router_id)):
                    yield gateway.host, router.router_id

    def _joined_or_parted(self, facts: Facts) -> Iterator[Cell]:
        for before, after in facts.reasons.changed():
            reason = after or before
            assert reason is not None
            kind, _, router_id = reason.because.partition("/")
            if kind == "router":
                yield reason.host, router_id

    def _changed(self, facts: Facts) -> Iterator[str]:
        """Routers whose own specification may be another: by what they are, or by their networks."""
        for old, new in facts.routers.changed():
            router = new or old
            assert router is not None
            yield router.router_id
        for gone, come in facts.interfaces.changed():
            interface = come or gone
            assert interface is not None
            yield interface.router_id
        for before, after in facts.network_events.changed():
            event = after or before
            assert event is not None
            yield from (each.router_id for each in facts.interfaces_on_network.get(event.network_id))
            yield from (router.router_id for router in facts.routers_with_gateway.get(event.network_id))

    def spec(self, facts: Facts, host: str, object_id: str) -> fabric.RouterSpec | None:
        router = facts.routers.get(object_id)
        if router is None or not facts.reasons_for_cause.get(host, because(object_id)):
            return None
        interfaces = sorted(facts.interfaces_of_router.get(object_id), key=lambda each: (each.position, each.subnet_id))
        spec = fabric.RouterSpec(
            router_id=object_id, interfaces=[_interface(facts, interface) for interface in interfaces]
        )
        for route in router.routes:
            destination, next_hop = route.split()
            spec.routes.add(destination=destination, next_hop=next_hop)
        if router.gateway:
            spec.gateway.CopyFrom(_gateway(facts, host, router))
        return spec

    def all(self, facts: Facts) -> Iterator[Cell]:
        for router in facts.routers:
            for host in _hosts(facts, router.router_id):
                yield host, router.router_id


def _hosts(facts: Facts, router_id: str) -> set[str]:
    return {reason.host for reason in facts.reasons_because.get(because(router_id))}


def _mtu(facts: Facts, network_id: str) -> int:
    found = network(facts, network_id)
    return 0 if found is None else found.mtu


def _interface(facts: Facts, interface: InterfaceFacts) -> fabric.RouterInterface:
    return fabric.RouterInterface(
        network_id=interface.network_id,
        subnet_id=interface.subnet_id,
        mac_address=interface.mac_address,
        address=interface.address,
        bridge=bridge_device(interface.network_id),
        mtu=_mtu(facts, interface.network_id),
    )


def _gateway(facts: Facts, host: str, router: RouterFacts) -> fabric.ExternalGateway:
    found = network(facts, router.gateway)
    by_family = {
        subnet.cidr.version: str(subnet.gateway)
        for subnet in reversed(found.subnets.values() if found is not None else ())
        if subnet.gateway is not None
    }
    gateway = fabric.ExternalGateway(
        network_id=router.gateway,
        bridge=bridge_device(router.gateway),
        mtu=_mtu(facts, router.gateway),
        next_hops=[by_family[version] for version in sorted(by_family)],
        snat=router.enable_snat,
    )
    own = facts.host_gateways.get(host, router.gateway)
    if own is not None:
        gateway.host_mac_address = own.mac_address
        if own.address:
            gateway.host_addresses.append(own.address)
    return gateway
