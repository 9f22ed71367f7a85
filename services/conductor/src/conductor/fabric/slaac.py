"""Ports that lack an address of a subnet whose guests make their addresses themselves (RFC 4862).

Whoever makes a port gives it one of each such subnet that its network has. A subnet that comes later, or at the same
moment, leaves ports without: what is found here, `conductor.network.keeper` gives them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cirra.network.v1 import events_pb2 as pb
from cirra.network.v1 import network_pb2 as public
from conductor.fabric.facts import Facts, LackingAddress, PortFacts
from conductor.fabric.networks import network
from conductor.fabric.source import Source
from core.eventlog.types import RecordedEvent

SLAAC = Source()


@SLAAC.on(pb.PortCreated)
def _created(facts: Facts, event: RecordedEvent, message: pb.PortCreated) -> None:
    facts.ports.put(PortFacts(str(event.aggregate_id), message.network_id, _subnets(message.fixed_ips)))


@SLAAC.on(pb.PortUpdated)
def _updated(facts: Facts, event: RecordedEvent, message: pb.PortUpdated) -> None:
    known = facts.ports.get(str(event.aggregate_id))
    if known is not None:
        facts.ports.put(PortFacts(known.port_id, known.network_id, _subnets(message.fixed_ips)))


@SLAAC.on(pb.PortDeleted)
def _deleted(facts: Facts, event: RecordedEvent, message: pb.PortDeleted) -> None:
    facts.ports.remove(str(event.aggregate_id))


@SLAAC.concluding
def _conclude(facts: Facts) -> None:
    changed = (after or before for before, after in facts.network_events.changed())
    for network_id in {event.network_id for event in changed if event is not None}:
        self_made = _self_made(facts, network_id)
        if self_made or facts.lacking_on_network.get(network_id):
            for port in list(facts.ports_on_network.get(network_id)):
                _compare(facts, port, self_made)
    for before, after in list(facts.ports.changed()):
        if after is not None:
            _compare(facts, after, _self_made(facts, after.network_id))
        elif before is not None:
            _lacks(facts, before, ())


def _compare(facts: Facts, port: PortFacts, self_made: Iterable[str]) -> None:
    _lacks(facts, port, [subnet_id for subnet_id in self_made if subnet_id not in port.subnet_ids])


def _lacks(facts: Facts, port: PortFacts, subnet_ids: Sequence[str]) -> None:
    for known in list(facts.lacking_of_port.get(port.port_id)):
        if known.subnet_id not in subnet_ids:
            facts.lacking.remove(known.port_id, known.subnet_id)
    for subnet_id in subnet_ids:
        facts.lacking.put(LackingAddress(port.port_id, subnet_id, port.network_id))


def _self_made(facts: Facts, network_id: str) -> list[str]:
    """The network's subnets of which a port has an address in any case."""
    found = network(facts, network_id)
    return [] if found is None else [subnet.id for subnet in found.subnets.values() if subnet.slaac]


def _subnets(fixed_ips: Iterable[public.FixedIp]) -> tuple[str, ...]:
    return tuple(fixed.subnet for fixed in fixed_ips)
