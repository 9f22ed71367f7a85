"""Routers: which hosts they join to which networks, and object `router`, for hosts that have one of their networks.

A host that has a network of a router has all of them, and so the routers on those, and their networks: it follows from
the ports alone which they are. Out of an external network nothing follows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network

from cirra.network.v1 import events_pb2 as pb
from conductor.fabric.facts import Facts, InterfaceFacts, Reason, RouterFacts, WayOut
from conductor.fabric.source import Source
from core.eventlog.types import RecordedEvent

ROUTERS = Source()
_ROUTER = "router/"


def because(router_id: str) -> str:
    """Why hosts have networks by a router."""
    return f"{_ROUTER}{router_id}"


@ROUTERS.on(pb.RouterCreated)
def _created(facts: Facts, event: RecordedEvent, message: pb.RouterCreated) -> None:
    facts.routers.put(RouterFacts(str(event.aggregate_id)))


@ROUTERS.on(pb.RouterUpdated)
def _updated(facts: Facts, event: RecordedEvent, message: pb.RouterUpdated) -> None:
    if "routes" in message.update_mask.paths:
        routes = tuple(f"{route.destination} {route.next_hop}" for route in message.routes)
        facts.routers.put(replace(_router(facts, event), routes=routes))


@ROUTERS.on(pb.RouterGatewaySet)
def _gateway_set(facts: Facts, event: RecordedEvent, message: pb.RouterGatewaySet) -> None:
    router = _router(facts, event)
    facts.routers.put(replace(router, gateway=message.network_id, enable_snat=message.enable_snat))


@ROUTERS.on(pb.RouterSnatSet)
def _snat_set(facts: Facts, event: RecordedEvent, message: pb.RouterSnatSet) -> None:
    facts.routers.put(replace(_router(facts, event), enable_snat=message.enable_snat))


@ROUTERS.on(pb.RouterGatewayCleared)
def _gateway_cleared(facts: Facts, event: RecordedEvent, message: pb.RouterGatewayCleared) -> None:
    facts.routers.put(replace(_router(facts, event), gateway="", enable_snat=False))


@ROUTERS.on(pb.RouterInterfaceAdded)
def _interface_added(facts: Facts, event: RecordedEvent, message: pb.RouterInterfaceAdded) -> None:
    facts.interfaces.put(
        InterfaceFacts(
            router_id=str(event.aggregate_id),
            subnet_id=message.subnet_id,
            network_id=message.network_id,
            address=f"{message.ip_address}/{ip_network(message.cidr).prefixlen}",
            mac_address=message.mac_address,
            position=event.position,
        )
    )


@ROUTERS.on(pb.RouterInterfaceRemoved)
def _interface_removed(facts: Facts, event: RecordedEvent, message: pb.RouterInterfaceRemoved) -> None:
    facts.interfaces.remove(str(event.aggregate_id), message.subnet_id)


@ROUTERS.on(pb.RouterDeleted)
def _deleted(facts: Facts, event: RecordedEvent, message: pb.RouterDeleted) -> None:
    facts.routers.remove(str(event.aggregate_id))


def _router(facts: Facts, event: RecordedEvent) -> RouterFacts:
    return facts.routers.get(str(event.aggregate_id)) or RouterFacts(str(event.aggregate_id))


@ROUTERS.concluding
def _join(facts: Facts) -> None:
    """Brings hosts concerned together with the networks that routers join them to, and apart."""
    for host in set(_concerned(facts)):
        wanted = set(_joined(facts, host))
        _lead_out(facts, host, wanted)
        present = {reason for reason in facts.reasons_of_host.get(host) if reason.because.startswith(_ROUTER)}
        for reason in present - wanted:
            facts.reasons.remove(reason.host, reason.network_id, reason.because)
        for reason in wanted - present:
            facts.reasons.put(reason)


def _lead_out(facts: Facts, host: str, joined: set[Reason]) -> None:
    """Notes the external networks that a host's routers lead to. `joined`: by which networks it has."""
    wanted: dict[str, bool] = {}
    for reason in joined:
        router = facts.routers.get(reason.because.removeprefix(_ROUTER))
        if router is not None and router.gateway:
            wanted[router.gateway] = wanted.get(router.gateway, False) or router.enable_snat
    for way in list(facts.ways_out_of_host.get(host)):
        if way.network_id not in wanted:
            facts.ways_out.remove(host, way.network_id)
    for network_id, snat in wanted.items():
        facts.ways_out.put(WayOut(host, network_id, snat))


def _concerned(facts: Facts) -> Iterator[str]:
    """Hosts whose ports, or whose routers, the event has changed."""
    for before, after in list(facts.reasons.changed()):
        reason = after or before
        assert reason is not None
        if not reason.because.startswith(_ROUTER) and facts.interfaces_on_network.get(reason.network_id):
            yield reason.host
    touched: set[str] = set()
    for old, new in facts.routers.changed():
        router = new or old
        assert router is not None
        if old is None or new is None or (old.gateway, old.enable_snat) != (new.gateway, new.enable_snat):
            touched.update(each.network_id for each in facts.interfaces_of_router.get(router.router_id))
    for gone, come in facts.interfaces.changed():
        interface = come or gone
        assert interface is not None
        touched.add(interface.network_id)
        touched.update(each.network_id for each in facts.interfaces_of_router.get(interface.router_id))
    for network_id in touched:
        yield from facts.hosts_with(network_id)


def _joined(facts: Facts, host: str) -> Iterator[Reason]:
    """Every network that a host has by a router: those of the router, and that of its way out."""
    present = facts.reasons_of_host.get(host)
    waiting = {reason.network_id for reason in present if not reason.because.startswith(_ROUTER)}
    seen, routers = set(waiting), set[str]()
    while waiting:
        for interface in facts.interfaces_on_network.get(waiting.pop()):
            if interface.router_id in routers:
                continue
            routers.add(interface.router_id)
            for other in facts.interfaces_of_router.get(interface.router_id):
                yield Reason(host, other.network_id, because(interface.router_id))
                if other.network_id not in seen:
                    seen.add(other.network_id)
                    waiting.add(other.network_id)
            router = facts.routers.get(interface.router_id)
            if router is not None and router.gateway:
                yield Reason(host, router.gateway, because(interface.router_id))
