"""The host aggregate: its inventory, whether an operator lets guests in, and whether it is heard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from enum import Enum
from uuid import UUID

from cirra.placement.v1 import differences_pb2 as differences
from cirra.placement.v1 import events_pb2 as pb
from cirra.placement.v1 import placement_pb2 as public
from cirra.placement.v1 import scheduling_pb2 as scheduling
from core.aggregate import Aggregate, applies, constrains
from core.errors import FailedPrecondition
from core.eventlog.types import Constraint, CounterLimit
from placement.hosts.capacity import (
    DEFAULT_RATIOS,
    RESOURCES,
    Ratios,
    amounts,
    capacity_of,
    capacity_scope,
    smallest,
)
from placement.liveness.term import of_term


class Health(Enum):
    """As HostState: ENROLLED until it was first UP."""

    ENROLLED = "enrolled"
    UP = "up"
    SUSPECTED = "suspected"
    DOWN = "down"


class Evacuation(Enum):
    """As EvacuationState: whether the guests of a host that is DOWN may be started elsewhere, once it is fenced."""

    NONE = "none"
    ALLOWED = "allowed"
    HELD = "held"
    APPROVED = "approved"


class Host(Aggregate, kind="host"):
    """Its id is `core.ids.host_aggregate_id(name)`."""

    name: str = ""
    # Of its enrolment; that of an aggregate goes before it.
    home_zone: str = ""
    memberships: dict[str, public.AggregateMembership] = field(default_factory=dict)
    ratios: Ratios = DEFAULT_RATIOS
    inventory: public.Inventory = field(default_factory=public.Inventory)
    enabled: bool = True
    disabled_reason: str = ""
    health: Health = Health.ENROLLED
    boot_ids: dict[str, str] = field(default_factory=dict)
    # By the agent that found them.
    orphans: dict[str, list[public.HostOrphan]] = field(default_factory=dict)
    faults: dict[str, list[public.HostFault]] = field(default_factory=dict)
    evacuation: Evacuation = Evacuation.NONE
    # The last epoch since which it was observe-only, and the last in which what differed there was accepted.
    observed_epoch: int = 0
    accepted_epoch: int = 0

    @property
    def availability_zone(self) -> str:
        """The one in force."""
        zones = (each.availability_zone for each in self.memberships.values() if each.availability_zone)
        return next(zones, self.home_zone)

    def enrol(self, name: str, availability_zone: str) -> None:
        """Enrolling again, after a new installation, keeps what is known of it."""
        if self.version == 0 or self.home_zone != availability_zone:
            self.record(pb.HostEnrolled(host=name, availability_zone=availability_zone))
            if self.memberships:
                self._record_memberships(self.memberships, DEFAULT_RATIOS)

    def set_inventory(self, inventory: public.Inventory, default: Ratios = DEFAULT_RATIOS) -> None:
        """What its agents tell of it and an operator has set of it. `default`: the cloud's ratios."""
        ratios = self._ratios(inventory, self.memberships, default)
        if inventory != self.inventory or ratios != self.ratios:
            capacity = scheduling.Resources(**capacity_of(inventory, ratios))
            self.record(
                pb.HostInventoryChanged(host=self.name, inventory=inventory, capacity=capacity, ratios=ratios.message())
            )

    def join(self, membership: public.AggregateMembership, default: Ratios = DEFAULT_RATIOS) -> None:
        """It is in an aggregate now, or that one has changed. Raises FailedPrecondition when it is in another zone."""
        others = (each for key, each in self.memberships.items() if key != membership.aggregate_id)
        for other in others:
            if membership.availability_zone and other.availability_zone not in ("", membership.availability_zone):
                raise FailedPrecondition(
                    f"host {self.name} is in zone {other.availability_zone} by aggregate {other.display_name}",
                    reason="HOST_IN_OTHER_ZONE",
                    remedy=f"remove it from aggregate {other.display_name} first",
                )
        if self.memberships.get(membership.aggregate_id) != membership:
            self._record_memberships({**self.memberships, membership.aggregate_id: membership}, default)

    def leave(self, aggregate_id: str, default: Ratios = DEFAULT_RATIOS) -> None:
        if aggregate_id in self.memberships:
            left = {key: each for key, each in self.memberships.items() if key != aggregate_id}
            self._record_memberships(left, default)

    def _record_memberships(self, memberships: Mapping[str, public.AggregateMembership], default: Ratios) -> None:
        ratios = self._ratios(self.inventory, memberships, default)
        zones = (each.availability_zone for each in memberships.values() if each.availability_zone)
        self.record(
            pb.HostAggregatesChanged(
                host=self.name,
                aggregates=memberships.values(),
                availability_zone=next(zones, self.home_zone),
                capacity=scheduling.Resources(**capacity_of(self.inventory, ratios)),
                ratios=ratios.message(),
            )
        )

    @staticmethod
    def _ratios(
        inventory: public.Inventory, memberships: Mapping[str, public.AggregateMembership], default: Ratios
    ) -> Ratios:
        of_aggregates = smallest(Ratios.of_message(each.ratios) for each in memberships.values())
        return Ratios.of_inventory(inventory).or_else(of_aggregates).or_else(default)

    def set_orphans(self, agent_name: str, orphans: Sequence[public.HostOrphan]) -> None:
        """All that this agent finds there: what it found before and doesn't name is gone."""
        if list(orphans) != self.orphans.get(agent_name, []):
            self.record(pb.HostOrphansChanged(host=self.name, agent=agent_name, orphans=orphans))

    def set_faults(self, agent_name: str, faults: Sequence[public.HostFault]) -> None:
        """All that this agent could not make so: what it told before and doesn't name is mended."""
        if list(faults) != self.faults.get(agent_name, []):
            self.record(pb.HostFaultsChanged(host=self.name, agent=agent_name, faults=faults))

    def enable(self) -> None:
        if not self.enabled:
            self.record(pb.HostEnabled(host=self.name))

    def disable(self, reason: str) -> None:
        if self.enabled or self.disabled_reason != reason:
            self.record(pb.HostDisabled(host=self.name, reason=reason))

    def suspect(self, silent_agents: Iterable[str], *, term: int = 0) -> None:
        """`term`, here and below: the detector's (`placement.liveness.term`)."""
        if self.health is Health.UP:
            self.record(pb.HostSuspected(host=self.name, silent_agents=sorted(silent_agents), term=term))

    def declare_down(self, silent_agents: Iterable[str], *, term: int = 0) -> None:
        if self.health in (Health.UP, Health.SUSPECTED):
            self.record(pb.HostDown(host=self.name, silent_agents=sorted(silent_agents), term=term))

    def declare_up(self, boot_ids: Mapping[str, str], *, term: int = 0) -> None:
        if self.health is not Health.UP or dict(boot_ids) != self.boot_ids:
            self.record(pb.HostUp(host=self.name, boot_ids=dict(boot_ids), term=term))

    def observe_only(self, epoch: int) -> None:
        """The log has begun that epoch: the host acts on nothing before what differs there is accepted."""
        if epoch > max(self.observed_epoch, self.accepted_epoch):
            self.record(pb.HostObserveOnly(host=self.name, epoch=epoch))

    def accept(self, epoch: int, etag: str, listed: Iterable[differences.HostDifference]) -> None:
        """A person has seen what differs there."""
        if epoch > self.accepted_epoch:
            self.record(pb.HostDifferencesAccepted(host=self.name, epoch=epoch, etag=etag, differences=listed))

    def hold_evacuation(self, reason: str, silent_hosts: int, *, term: int = 0) -> None:
        """It is DOWN by what may well be no fault of its own. What a person has approved stays approved."""
        if self.evacuation is Evacuation.ALLOWED:
            self.record(pb.HostEvacuationHeld(host=self.name, reason=reason, silent_hosts=silent_hosts, term=term))

    def approve_evacuation(self, reason: str) -> None:
        """A person has made sure that it is dead. Raises FailedPrecondition when nothing waits for that."""
        if self.evacuation is Evacuation.HELD:
            self.record(pb.HostEvacuationApproved(host=self.name, reason=reason))
        elif self.evacuation is not Evacuation.APPROVED:
            raise FailedPrecondition(
                f"the evacuation of host {self.name} is not held: it is {self.health.name}",
                reason="EVACUATION_NOT_HELD",
                remedy="look at it: cirra host show",
            )

    @applies(pb.HostEnrolled)
    def _enrolled(self, event: pb.HostEnrolled) -> None:
        self.name, self.home_zone = event.host, event.availability_zone

    @applies(pb.HostInventoryChanged)
    def _inventory_changed(self, event: pb.HostInventoryChanged) -> None:
        self.inventory = event.inventory
        if event.HasField("ratios"):
            self.ratios = Ratios.of_message(event.ratios)

    @applies(pb.HostAggregatesChanged)
    def _aggregates_changed(self, event: pb.HostAggregatesChanged) -> None:
        self.memberships = {each.aggregate_id: each for each in event.aggregates}
        self.ratios = Ratios.of_message(event.ratios)

    @applies(pb.HostOrphansChanged)
    def _orphans_changed(self, event: pb.HostOrphansChanged) -> None:
        self.orphans[event.agent] = list(event.orphans)

    @applies(pb.HostFaultsChanged)
    def _faults_changed(self, event: pb.HostFaultsChanged) -> None:
        self.faults[event.agent] = list(event.faults)

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
        self.health, self.evacuation = Health.DOWN, Evacuation.ALLOWED

    @applies(pb.HostEvacuationHeld)
    def _evacuation_held(self, event: pb.HostEvacuationHeld) -> None:
        self.evacuation = Evacuation.HELD

    @applies(pb.HostEvacuationApproved)
    def _evacuation_approved(self, event: pb.HostEvacuationApproved) -> None:
        self.evacuation = Evacuation.APPROVED

    @applies(pb.HostObserveOnly)
    def _observed_only(self, event: pb.HostObserveOnly) -> None:
        self.observed_epoch = event.epoch

    @applies(pb.HostDifferencesAccepted)
    def _accepted(self, event: pb.HostDifferencesAccepted) -> None:
        self.accepted_epoch = event.epoch

    @applies(pb.HostUp)
    def _up(self, event: pb.HostUp) -> None:
        self.health, self.boot_ids = Health.UP, dict(event.boot_ids)
        self.evacuation = Evacuation.NONE


@constrains(pb.HostInventoryChanged)
def _capacity(host_id: UUID, event: pb.HostInventoryChanged) -> Iterable[Constraint]:
    """Capacity may shrink below what is used: then only new claims are refused."""
    return _limits(event.host, amounts(event.capacity) if event.HasField("capacity") else capacity_of(event.inventory))


@constrains(pb.HostAggregatesChanged)
def _capacity_by_aggregates(host_id: UUID, event: pb.HostAggregatesChanged) -> Iterable[Constraint]:
    return _limits(event.host, amounts(event.capacity))


def _limits(host: str, capacity: Mapping[str, int]) -> Iterable[Constraint]:
    for resource in RESOURCES:
        yield CounterLimit(capacity_scope(resource), host, capacity[resource])


for _declared in (pb.HostSuspected, pb.HostDown, pb.HostUp, pb.HostEvacuationHeld):
    constrains(_declared)(of_term)
