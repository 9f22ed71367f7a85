"""The flavor: how large an instance is. A change of a flavor changes no instance: each keeps a summary of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from uuid import UUID

from cirra.compute.v1 import compute_pb2 as public
from cirra.compute.v1 import events_pb2 as pb
from conductor.fields import Fields
from conductor.requests import require_live
from core.aggregate import Aggregate, applies, constrains
from core.eventlog.types import Constraint, UniqueClaim, UniqueRelease

NAMES = "flavor-name"
MAX_VCPUS = 512
MAX_MEMORY_MIB = 16 * 1024 * 1024
MAX_DISK_GIB = 64 * 1024


class Flavor(Aggregate, kind="flavor"):
    display_name: str = ""
    vcpus: int = 0
    memory_mib: int = 0
    disk_gib: int = 0
    extra_specs: dict[str, str] = field(default_factory=dict)
    deleted: bool = False

    @property
    def resource_name(self) -> str:
        return f"flavors/{self.id}"

    @property
    def summary(self) -> public.FlavorSummary:
        return public.FlavorSummary(
            display_name=self.display_name,
            vcpus=self.vcpus,
            memory_mib=self.memory_mib,
            disk_gib=self.disk_gib,
            extra_specs=self.extra_specs,
        )

    @classmethod
    def create(cls, flavor_id: UUID, wanted: public.Flavor) -> Flavor:
        """Raises InvalidArgument."""
        _check(wanted)
        flavor = cls.new(flavor_id)
        flavor.record(
            pb.FlavorCreated(
                display_name=wanted.display_name,
                vcpus=wanted.vcpus,
                memory_mib=wanted.memory_mib,
                disk_gib=wanted.disk_gib,
                extra_specs=wanted.extra_specs,
            )
        )
        return flavor

    def delete(self) -> None:
        """Raises NotFound when deleted."""
        require_live(self).record(pb.FlavorDeleted(display_name=self.display_name))

    @applies(pb.FlavorCreated)
    def _created(self, event: pb.FlavorCreated) -> None:
        self.display_name = event.display_name
        self.vcpus, self.memory_mib, self.disk_gib = event.vcpus, event.memory_mib, event.disk_gib
        self.extra_specs = dict(event.extra_specs)

    @applies(pb.FlavorDeleted)
    def _deleted(self, event: pb.FlavorDeleted) -> None:
        self.deleted = True


def _check(wanted: public.Flavor) -> None:
    fields = Fields("flavor.")
    fields.name("display_name", wanted.display_name)
    fields.between("vcpus", wanted.vcpus, 1, MAX_VCPUS)
    fields.between("memory_mib", wanted.memory_mib, 1, MAX_MEMORY_MIB, "MiB")
    fields.between("disk_gib", wanted.disk_gib, 1, MAX_DISK_GIB, "GiB")
    fields.texts("extra_specs", wanted.extra_specs)
    fields.check()


@constrains(pb.FlavorCreated)
def _begins(flavor_id: UUID, event: pb.FlavorCreated) -> Iterator[Constraint]:
    yield UniqueClaim(NAMES, event.display_name, str(flavor_id))


@constrains(pb.FlavorDeleted)
def _ends(flavor_id: UUID, event: pb.FlavorDeleted) -> Iterator[Constraint]:
    yield UniqueRelease(NAMES, event.display_name, str(flavor_id))
