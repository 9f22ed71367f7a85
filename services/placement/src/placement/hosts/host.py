"""The host aggregate: its inventory, whether an operator lets guests in, and whether it is heard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from enum import Enum
from uuid import UUID

from cirra.placement.v1 import events_pb2 as pb
from cirra.placement.v1 import placement_pb2 as public
from core.aggregate import Aggregate, applies, constrains
from core.eventlog.types import Constraint, CounterLimit
from placement.hosts.capacity import RESOURCES, capacity_of, capacity_scope


class Health(Enum):
    """As HostState: ENROLLED until it was first UP."""

    ENROLLED = "enrolled"
    UP = "up"
    SUSPECTED = "suspected"
    DOWN = "down"


class Host(Aggregate, kind="host"):
    """Its id is `core.ids.host_aggregate_id(name)`."""

    name: str = ""
    availability_zone: str = ""
    inventory: public.Inventory = field(default_factory=public.Inventory)
    enabled: bool = True
    disabled_reason: str = ""
    health: Health = Health.ENROLLED
    boot_ids: dict[str, str] = field(default_factory=dict)

    def enrol(self, name: str, availability_zone: str) -> None:
        """Enrolling again, after a new installation, keeps what is known of it."""
        if self.version == 0 or self.availability_zone != availability_zone:
            self.record(pb.HostEnrolled(host=name, availability_zone=availability_zone))

    def set_inventory(self, inventory: public.Inventory) -> None:
        if inventory != self.inventory:
            self.record(pb.HostInventoryChanged(host=self.name, inventory=inventory))

    def enable(self) -> None:
        if not self.enabled:
            self.record(pb.HostEnabled(host=self.name))

    def disable(self, reason: str) -> None:
        if self.enabled or self.disabled_reason != reason:
            self.record(pb.HostDisabled(host=self.name, reason=reason))

    def suspect(self, silent_agents: Iterable[str]) -> None:
        if self.health is Health.UP:
            self.record(pb.HostSuspected(host=self.name, silent_agents=sorted(silent_agents)))

    def declare_down(self, silent_agents: Iterable[str]) -> None:
        if self.health in (Health.UP, Health.SUSPECTED):
            self.record(pb.HostDown(host=self.name, silent_agents=sorted(silent_agents)))

    def declare_up(self, boot_ids: Mapping[str, str]) -> None:
        if self.health is not Health.UP or dict(boot_ids) != self.boot_ids:
            self.record(pb.HostUp(host=self.name, boot_ids=dict(boot_ids)))

    @applies(pb.HostEnrolled)
    def _enrolled(self, event: pb.HostEnrolled) -> None:
        self.name, self.availability_zone = event.host, event.availability_zone

    @applies(pb.HostInventoryChanged)
    def _inventory_changed(self, event: pb.HostInventoryChanged) -> None:
        self.inventory = event.inventory

    @applies(pb.HostEnabled)
    def _enabled(self, event: pb.HostEnabled) -> None:
        self.enabled, self.disabled_reason = True, ""

    @applies(pb.HostDisabled)
    def _disabled(self, event: pb.HostDisabled) -> None:
        self.enabled, self.disabled_reason = False, event.reason

    @applies(pb.HostSuspected)
    def _suspected(self, event: pb.HostSuspected) -> None:
        self.health = Health.SUSPECTED

    @applies(pb.HostDown)
    def _down(self, event: pb.HostDown) -> None:
        self.health = Health.DOWN

    @applies(pb.HostUp)
    def _up(self, event: pb.HostUp) -> None:
        self.health, self.boot_ids = Health.UP, dict(event.boot_ids)


@constrains(pb.HostInventoryChanged)
def _capacity(host_id: UUID, event: pb.HostInventoryChanged) -> Iterable[Constraint]:
    """Capacity may shrink below what is used: then only new claims are refused."""
    capacity = capacity_of(event.inventory)
    for resource in RESOURCES:
        yield CounterLimit(capacity_scope(resource), event.host, capacity[resource])
