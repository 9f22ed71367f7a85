"""All hosts, folded from the log. A hint: the constraint rows of the log decide."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from google.protobuf.message import Message

from cirra.compute.v1 import events_pb2 as compute
from cirra.operations.v1.events_pb2 import EpochRaised
from cirra.placement.v1 import events_pb2 as pb
from cirra.placement.v1 import scheduling_pb2 as scheduling
from core.eventlog.types import RecordedEvent
from core.ids import claim_aggregate_id
from placement.hosts.capacity import RESOURCES, amounts, capacity_of
from placement.hosts.table import HostTable


@dataclass(frozen=True, slots=True)
class Held:
    """What a claim takes of a row."""

    row: int
    amounts: tuple[int, ...]
    group: scheduling.GroupRule | None


class HostView:
    """Folds the events of hosts, aggregates and claims. `position`: how far it is.

    A claim of this replica is `reserved` before it is in the log, so that the next decision counts with it; then it is
    `confirmed` or `cancelled`.
    """

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.position = 0
        self._monotonic = monotonic
        self.table = HostTable()
        # Host → the boots that its agents were declared up in; without those that are not UP.
        self.boots: dict[str, Mapping[str, str]] = {}
        # By the claim's id, by attempt.
        self._held: dict[UUID, dict[int, Held]] = {}

    def silent_lately(self, within_s: float) -> list[int]:
        """Rows of the hosts that fell silent less than so many seconds ago, as far as this process knows: who has just
        begun takes all that are silent for such."""
        now = self._monotonic()
        return [row for row, since in self.table.silent_since.items() if now - since < within_s]

    # --- claims of our own

    def reserve(self, made: pb.ClaimMade) -> Held:
        """Counts with a claim that is about to be made."""
        held = self._held_by(made)
        self.table.take(held.row, held.amounts, held.group)
        return held

    def cancel(self, held: Held) -> None:
        """It was not made."""
        self.table.take(held.row, held.amounts, held.group, -1)

    def confirm(self, held: Held, claim_id: UUID, attempt: int, position: int) -> None:
        """It is in the log, at that position; unless its event has come by already, it is held for that."""
        if position <= self.position or attempt in self._held.get(claim_id, ()):
            self.cancel(held)
        else:
            self._held.setdefault(claim_id, {})[attempt] = held

    # --- events

    def apply(self, event: RecordedEvent) -> None:
        """Takes in the next event."""
        found = _APPLY.get(event.type)
        if found is not None:
            message_class, change = found
            change(self, event.aggregate_id, message_class.FromString(event.data))
        self.position = event.position

    def _enrolled(self, host_id: UUID, message: pb.HostEnrolled) -> None:
        """Of a host in aggregates, the event that follows at once tells the zone in force."""
        self.table.zones.set(self.table.row(message.host), message.availability_zone)
        self.table.revision += 1

    def _inventory_changed(self, host_id: UUID, message: pb.HostInventoryChanged) -> None:
        row = self.table.row(message.host)
        self.table.set_inventory(row, message.inventory)
        capacity = amounts(message.capacity) if message.HasField("capacity") else capacity_of(message.inventory)
        self.table.set_capacity(row, tuple(capacity[resource] for resource in RESOURCES))
        self.table.revision += 1

    def _aggregates_changed(self, host_id: UUID, message: pb.HostAggregatesChanged) -> None:
        row = self.table.row(message.host)
        self.table.aggregates.set(row, (each.aggregate_id for each in message.aggregates))
        self.table.zones.set(row, message.availability_zone)
        self.table.set_capacity(row, tuple(amounts(message.capacity).values()))
        self.table.revision += 1

    def _aggregate_described(self, aggregate_id: UUID, message: pb.AggregateCreated | pb.AggregateChanged) -> None:
        self.table.aggregate_metadata[str(aggregate_id)] = dict(message.metadata)
        self.table.revision += 1

    def _aggregate_deleted(self, aggregate_id: UUID, message: pb.AggregateDeleted) -> None:
        self.table.aggregate_metadata.pop(str(aggregate_id), None)
        self.table.revision += 1

    def _epoch_raised(self, message: EpochRaised) -> None:
        """No host that is known by now acts before it is accepted. At once: their own events come later."""
        self.table.epoch = message.epoch
        self.table.observing[:] = True
        self.table.revision += 1

    def _accepted(self, message: pb.HostDifferencesAccepted) -> None:
        if message.epoch >= self.table.epoch:
            self.table.observing[self.table.row(message.host)] = False
            self.table.revision += 1

    def _set_enabled(self, host: str, enabled: bool) -> None:
        self.table.enabled[self.table.row(host)] = enabled
        self.table.revision += 1

    def _set_up(self, host: str, up: bool) -> None:
        row = self.table.row(host)
        self.table.up[row] = up
        if up:
            self.table.silent_since.pop(row, None)
        else:
            self.table.silent_since.setdefault(row, self._monotonic())
        self.table.revision += 1

    def _up(self, message: pb.HostUp) -> None:
        self.boots[message.host] = dict(message.boot_ids)
        self._set_up(message.host, True)

    def _not_up(self, message: pb.HostSuspected | pb.HostDown) -> None:
        self.boots.pop(message.host, None)
        self._set_up(message.host, False)

    def _made(self, claim_id: UUID, message: pb.ClaimMade) -> None:
        self._give_back(claim_id, message.attempt)
        self._held.setdefault(claim_id, {})[message.attempt] = self.reserve(message)

    def _released(self, claim_id: UUID, message: pb.ClaimReleased) -> None:
        self._give_back(claim_id, message.attempt)
        self._count_failure(message)

    def _count_failure(self, message: pb.ClaimReleased | pb.ClaimCleanupPending) -> None:
        if message.build_failed:
            self.table.build_failures[self.table.row(message.host)] += 1

    def _built(self, instance_id: UUID) -> None:
        """A guest runs: what failed on its host before is no news any more."""
        held = self._held.get(claim_aggregate_id(instance_id))
        if held:
            self.table.build_failures[held[max(held)].row] = 0

    def _give_back(self, claim_id: UUID, attempt: int) -> None:
        of_claim = self._held.get(claim_id, {})
        held = of_claim.pop(attempt, None)
        if held is not None:
            self.cancel(held)
            if not of_claim:
                del self._held[claim_id]

    def _held_by(self, made: pb.ClaimMade) -> Held:
        group = made.group if made.HasField("group") else None
        return Held(self.table.row(made.host), tuple(amounts(made.resources).values()), group)


_Change = Callable[[HostView, UUID, Any], None]

_CHANGES: tuple[tuple[type[Message], _Change], ...] = (
    (pb.HostEnrolled, HostView._enrolled),
    (pb.HostInventoryChanged, HostView._inventory_changed),
    (pb.HostAggregatesChanged, HostView._aggregates_changed),
    (pb.HostEnabled, lambda view, _, message: view._set_enabled(message.host, True)),
    (pb.HostDisabled, lambda view, _, message: view._set_enabled(message.host, False)),
    (pb.HostUp, lambda view, _, message: view._up(message)),
    (pb.HostSuspected, lambda view, _, message: view._not_up(message)),
    (pb.HostDown, lambda view, _, message: view._not_up(message)),
    (EpochRaised, lambda view, _, message: view._epoch_raised(message)),
    (pb.HostDifferencesAccepted, lambda view, _, message: view._accepted(message)),
    (pb.AggregateCreated, HostView._aggregate_described),
    (pb.AggregateChanged, HostView._aggregate_described),
    (pb.AggregateDeleted, HostView._aggregate_deleted),
    (pb.ClaimMade, HostView._made),
    (pb.ClaimReleased, HostView._released),
    (pb.ClaimCleanupPending, lambda view, _, message: view._count_failure(message)),
    (compute.InstanceActivated, lambda view, instance_id, _: view._built(instance_id)),
)
_APPLY: dict[str, tuple[type[Message], _Change]] = {
    message_class.DESCRIPTOR.full_name: (message_class, change) for message_class, change in _CHANGES
}

CONCERNED = frozenset(_APPLY)
"""The full names of the events that a view is folded from."""
