"""Floating IPs, and gateways of hosts; object `floating-ip`, for the host of the port that it leads to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from cirra.agent.v1 import fabric_pb2 as fabric
from cirra.network.v1 import events_pb2 as pb
from conductor.fabric.facts import Facts, FloatingIpFacts, HostGatewayFacts
from conductor.fabric.kind import Cell
from conductor.fabric.source import Source
from core.eventlog.types import RecordedEvent

FLOATING_IPS = Source()


@FLOATING_IPS.on(pb.FloatingIpCreated)
def _created(facts: Facts, event: RecordedEvent, message: pb.FloatingIpCreated) -> None:
    floating_ip_id = str(event.aggregate_id)
    facts.floating_ips.put(FloatingIpFacts(floating_ip_id, message.floating_ip_address, message.network_id))


@FLOATING_IPS.on(pb.FloatingIpAssociated)
def _associated(facts: Facts, event: RecordedEvent, message: pb.FloatingIpAssociated) -> None:
    known = facts.floating_ips.get(str(event.aggregate_id))
    if known is not None:
        target = replace(
            known,
            port_id=message.port_id,
            fixed_ip_address=message.fixed_ip_address,
            router_id=message.router_id,
            orphaned=False,
        )
        facts.floating_ips.put(target)


@FLOATING_IPS.on(pb.FloatingIpDisassociated)
def _disassociated(facts: Facts, event: RecordedEvent, message: pb.FloatingIpDisassociated) -> None:
    known = facts.floating_ips.get(str(event.aggregate_id))
    if known is not None:
        facts.floating_ips.put(FloatingIpFacts(known.floating_ip_id, known.address, known.network_id))


@FLOATING_IPS.on(pb.FloatingIpDeleted)
def _deleted(facts: Facts, event: RecordedEvent, message: pb.FloatingIpDeleted) -> None:
    facts.floating_ips.remove(str(event.aggregate_id))


@FLOATING_IPS.on(pb.PortDeleted)
def _port_deleted(facts: Facts, event: RecordedEvent, message: pb.PortDeleted) -> None:
    for floating_ip in list(facts.floating_ips_of_port.get(str(event.aggregate_id))):
        facts.floating_ips.put(replace(floating_ip, orphaned=True))


@FLOATING_IPS.on(pb.HostGatewayOpened)
def _opened(facts: Facts, event: RecordedEvent, message: pb.HostGatewayOpened) -> None:
    facts.host_gateways.put(HostGatewayFacts(message.host, message.network_id, message.mac_address))


@FLOATING_IPS.on(pb.HostGatewayAddressAllocated)
def _allocated(facts: Facts, event: RecordedEvent, message: pb.HostGatewayAddressAllocated) -> None:
    known = facts.host_gateways.get(message.host, message.network_id)
    if known is not None:
        facts.host_gateways.put(replace(known, address=f"{message.ip_address}/{message.prefix_length}"))


@FLOATING_IPS.on(pb.HostGatewayAddressReleased)
def _released(facts: Facts, event: RecordedEvent, message: pb.HostGatewayAddressReleased) -> None:
    known = facts.host_gateways.get(message.host, message.network_id)
    if known is not None:
        facts.host_gateways.put(replace(known, address=""))


@FLOATING_IPS.on(pb.HostGatewayClosed)
def _closed(facts: Facts, event: RecordedEvent, message: pb.HostGatewayClosed) -> None:
    facts.host_gateways.remove(message.host, message.network_id)


class FloatingIpKind:
    """Its object id is the floating IP's."""

    name = "floating-ip"

    def affected(self, facts: Facts) -> Iterator[Cell]:
        for before, after in facts.floating_ips.changed():
            for floating_ip in filter(None, (before, after)):
                for host in _hosts(facts, floating_ip.port_id):
                    yield host, floating_ip.floating_ip_id
        for old, new in facts.bindings.changed():
            binding = new or old
            assert binding is not None
            for floating_ip in facts.floating_ips_of_port.get(binding.port_id):
                for host in _hosts(facts, binding.port_id):
                    yield host, floating_ip.floating_ip_id

    def spec(self, facts: Facts, host: str, object_id: str) -> fabric.FloatingIpSpec | None:
        found = facts.floating_ips.get(object_id)
        if found is None or not found.port_id or found.orphaned:
            return None
        binding = facts.active_binding(found.port_id)
        if binding is None or binding.host != host:
            return None
        return fabric.FloatingIpSpec(
            floating_ip_id=object_id,
            floating_ip_address=found.address,
            fixed_ip_address=found.fixed_ip_address,
            port_id=found.port_id,
            router_id=found.router_id,
            external_network_id=found.network_id,
        )

    def all(self, facts: Facts) -> Iterator[Cell]:
        for floating_ip in facts.floating_ips:
            for binding in facts.bindings_of_port.get(floating_ip.port_id):
                yield binding.host, floating_ip.floating_ip_id


def _hosts(facts: Facts, port_id: str) -> set[str]:
    """Where a port is bound, and where it was before this event."""
    hosts = {binding.host for binding in facts.bindings_of_port.get(port_id)}
    for before, _ in facts.bindings.changed():
        if before is not None and before.port_id == port_id:
            hosts.add(before.host)
    return hosts
