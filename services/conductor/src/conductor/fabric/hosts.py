"""Hosts as the fabric knows them: where they take in tunnels, and whether they can be told anything."""

from __future__ import annotations

from dataclasses import replace

from cirra.placement.v1 import events_pb2 as pb
from conductor.fabric.facts import Facts, HostFacts
from conductor.fabric.source import Source
from core.eventlog.types import RecordedEvent

HOSTS = Source()


def _known(facts: Facts, host: str) -> HostFacts:
    return facts.hosts.get(host) or HostFacts(host)


@HOSTS.on(pb.HostEnrolled)
def _enrolled(facts: Facts, event: RecordedEvent, message: pb.HostEnrolled) -> None:
    """A new host has nothing to differ in; one that is enrolled again has."""
    known = facts.hosts.get(message.host)
    if known is None:
        facts.hosts.put(HostFacts(message.host, accepted_epoch=event.epoch))
    else:
        facts.hosts.put(replace(known, down=False))


@HOSTS.on(pb.HostInventoryChanged)
def _inventory_changed(facts: Facts, event: RecordedEvent, message: pb.HostInventoryChanged) -> None:
    facts.hosts.put(replace(_known(facts, message.host), tunnel_address=message.inventory.tunnel_address))


@HOSTS.on(pb.HostUp)
def _up(facts: Facts, event: RecordedEvent, message: pb.HostUp) -> None:
    facts.hosts.put(replace(_known(facts, message.host), down=False))


@HOSTS.on(pb.HostDown)
def _down(facts: Facts, event: RecordedEvent, message: pb.HostDown) -> None:
    facts.hosts.put(replace(_known(facts, message.host), down=True))


@HOSTS.on(pb.HostDifferencesAccepted)
def _accepted(facts: Facts, event: RecordedEvent, message: pb.HostDifferencesAccepted) -> None:
    known = _known(facts, message.host)
    facts.hosts.put(replace(known, accepted_epoch=max(known.accepted_epoch, message.epoch)))
