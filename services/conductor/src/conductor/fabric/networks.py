"""Networks, as their own events make them; object `network`, for hosts that have it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from google.protobuf.message import Message

from cirra.agent.v1 import desired_pb2 as agent
from cirra.network.v1 import events_pb2 as pb
from conductor.fabric.facts import Facts, NetworkEvent
from conductor.fabric.kind import Cell
from conductor.fabric.source import Source
from conductor.network.network import Network
from core.aggregate import upcast
from core.eventlog.types import RecordedEvent

NETWORKS = Source()


def _happened(facts: Facts, event: RecordedEvent, message: Message) -> None:
    """Kept as it is: what becomes of it is the aggregate's to say, as for the network that a port's command carries."""
    network_id = str(event.aggregate_id)
    facts.networks.pop(network_id, None)
    if isinstance(message, pb.NetworkDeleted):
        for earlier in list(facts.events_of_network.get(network_id)):
            facts.network_events.remove(network_id, earlier.version)
    else:
        facts.network_events.put(NetworkEvent(network_id, event.version, event.type, event.schema_version, event.data))


for _event_class in Network.event_classes.values():
    NETWORKS.on(_event_class.message_class)(_happened)


def network(facts: Facts, network_id: str) -> Network | None:
    """The network as it is now; None when it is deleted."""
    known = facts.networks.get(network_id)
    if known is None:
        events = sorted(facts.events_of_network.get(network_id), key=lambda event: event.version)
        if not events:
            return None
        known = facts.networks[network_id] = _folded(UUID(network_id), events)
    return known


def _folded(network_id: UUID, events: list[NetworkEvent]) -> Network:
    made: Any = None
    for event in events:
        event_class: Any = Network.event_classes[event.type]
        message = event_class.message_class.FromString(event.data)
        upcast(message, event.schema_version)
        made = event_class(
            originator_id=network_id,
            originator_version=event.version,
            timestamp=event_class.create_timestamp(),
            data=message,
        ).mutate(made)
    folded: Network = made
    return folded


class NetworkKind:
    """Object `network`."""

    name = "network"

    def __init__(self) -> None:
        self._made: tuple[Network, agent.NetworkSpec] | None = None

    def affected(self, facts: Facts) -> Iterator[Cell]:
        yield from facts.presence_changes()
        changed = (after or before for before, after in facts.network_events.changed())
        for network_id in {event.network_id for event in changed if event is not None}:
            for host in facts.hosts_with(network_id):
                yield host, network_id

    def spec(self, facts: Facts, host: str, object_id: str) -> agent.NetworkSpec | None:
        found = network(facts, object_id) if facts.has(host, object_id) else None
        if found is None:
            return None
        if self._made is None or self._made[0] is not found:
            self._made = found, found.spec()
        return self._made[1]

    def all(self, facts: Facts) -> Iterator[Cell]:
        yield from {(reason.host, reason.network_id) for reason in facts.reasons}
