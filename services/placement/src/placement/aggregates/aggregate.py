"""The aggregate of hosts: its zone, its metadata, and who is in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from uuid import UUID

from cirra.placement.v1 import events_pb2 as pb
from cirra.placement.v1 import placement_pb2 as public
from core.aggregate import Aggregate, applies, constrains
from core.errors import FailedPrecondition, FieldViolation, InvalidArgument, NotFound
from core.eventlog.types import Constraint, UniqueClaim, UniqueRelease
from core.fields import Fields
from placement.hosts.capacity import MAX_RATIO, Ratios

NAMES = "aggregate-name"

# As nova's operators write them → the resource.
_RATIOS = {"cpu_allocation_ratio": "vcpus", "ram_allocation_ratio": "memory_mib", "disk_allocation_ratio": "disk_gib"}


class HostAggregate(Aggregate, kind="aggregate"):
    display_name: str = ""
    availability_zone: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    hosts: list[str] = field(default_factory=list)
    deleted: bool = False

    @property
    def resource_name(self) -> str:
        return f"aggregates/{self.id}"

    @property
    def membership(self) -> public.AggregateMembership:
        """What a host in it has of it."""
        ratios = {_RATIOS[key]: float(value) for key, value in self.metadata.items() if key in _RATIOS}
        return public.AggregateMembership(
            aggregate_id=str(self.id),
            display_name=self.display_name,
            availability_zone=self.availability_zone,
            ratios=Ratios(**ratios).message(),
        )

    def create(self, display_name: str, availability_zone: str, metadata: Mapping[str, str]) -> None:
        """Repeating it changes nothing. Raises InvalidArgument."""
        if self.version:
            return
        _check(display_name, availability_zone, metadata)
        self.record(
            pb.AggregateCreated(display_name=display_name, availability_zone=availability_zone, metadata=dict(metadata))
        )

    def change(self, display_name: str, availability_zone: str, metadata: Mapping[str, str]) -> None:
        """Raises InvalidArgument, NotFound when it is deleted."""
        self.require_live()
        _check(display_name, availability_zone, metadata)
        if (display_name, availability_zone, metadata) != (self.display_name, self.availability_zone, self.metadata):
            self.record(
                pb.AggregateChanged(
                    display_name=display_name,
                    availability_zone=availability_zone,
                    metadata=dict(metadata),
                    former_display_name=self.display_name,
                )
            )

    def add_host(self, host: str) -> None:
        self.require_live()
        if host not in self.hosts:
            self.record(pb.AggregateHostAdded(host=host))

    def remove_host(self, host: str) -> None:
        """Raises InvalidArgument when it is not in it."""
        self.require_live()
        if host not in self.hosts:
            raise InvalidArgument(FieldViolation("host", f"host {host!r} is not in aggregate {self.display_name}"))
        self.record(pb.AggregateHostRemoved(host=host))

    def delete(self) -> None:
        """Raises NotFound when it is deleted, FailedPrecondition while it has hosts."""
        self.require_live()
        if self.hosts:
            raise FailedPrecondition(
                f"aggregate {self.display_name} has {len(self.hosts)} hosts",
                reason="AGGREGATE_IN_USE",
                remedy="remove its hosts first",
            )
        self.record(pb.AggregateDeleted(display_name=self.display_name))

    def require_live(self) -> None:
        """Raises NotFound."""
        if self.deleted or not self.version:
            raise NotFound(f"no aggregate {self.id}", remedy="see `cirra aggregate list`")

    @applies(pb.AggregateCreated)
    def _created(self, event: pb.AggregateCreated) -> None:
        self.display_name, self.availability_zone = event.display_name, event.availability_zone
        self.metadata = dict(event.metadata)

    @applies(pb.AggregateChanged)
    def _changed(self, event: pb.AggregateChanged) -> None:
        self.display_name, self.availability_zone = event.display_name, event.availability_zone
        self.metadata = dict(event.metadata)

    @applies(pb.AggregateHostAdded)
    def _host_added(self, event: pb.AggregateHostAdded) -> None:
        self.hosts.append(event.host)

    @applies(pb.AggregateHostRemoved)
    def _host_removed(self, event: pb.AggregateHostRemoved) -> None:
        self.hosts.remove(event.host)

    @applies(pb.AggregateDeleted)
    def _deleted(self, event: pb.AggregateDeleted) -> None:
        self.deleted = True


def _check(display_name: str, availability_zone: str, metadata: Mapping[str, str]) -> None:
    fields = Fields("aggregate.")
    fields.name("display_name", display_name)
    if availability_zone:
        fields.name("availability_zone", availability_zone)
    fields.texts("metadata", metadata)
    for key in _RATIOS.keys() & metadata.keys():
        if not _is_ratio(metadata[key]):
            fields.refuse(f"metadata[{key!r}]", f"{metadata[key]!r} is no ratio: give a number up to {MAX_RATIO:g}")
    fields.check()


def _is_ratio(text: str) -> bool:
    try:
        return 0 < float(text) <= MAX_RATIO
    except ValueError:
        return False


@constrains(pb.AggregateCreated)
def _begins(aggregate_id: UUID, event: pb.AggregateCreated) -> Iterable[Constraint]:
    yield UniqueClaim(NAMES, event.display_name, str(aggregate_id))


@constrains(pb.AggregateChanged)
def _renamed(aggregate_id: UUID, event: pb.AggregateChanged) -> Iterable[Constraint]:
    if event.former_display_name != event.display_name:
        yield UniqueRelease(NAMES, event.former_display_name, str(aggregate_id))
        yield UniqueClaim(NAMES, event.display_name, str(aggregate_id))


@constrains(pb.AggregateDeleted)
def _ends(aggregate_id: UUID, event: pb.AggregateDeleted) -> Iterable[Constraint]:
    yield UniqueRelease(NAMES, event.display_name, str(aggregate_id))
