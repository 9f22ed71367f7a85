"""The project: what owns resources, and what quotas are counted for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from uuid import UUID

from cirra.identity.v1 import events_pb2 as pb
from conductor import quotas, references
from conductor.requests import require_live
from core.aggregate import Aggregate, applies, constrains
from core.eventlog.types import Constraint, UniqueClaim, UniqueRelease

NAMES = "project-name"


class Project(Aggregate, kind="project"):
    """Its limits and usage are counters of the log, not state of the aggregate."""

    display_name: str = ""
    deleted: bool = False

    @property
    def resource_name(self) -> str:
        return f"projects/{self.id}"

    @classmethod
    def create(
        cls, project_id: UUID, display_name: str, *, description: str = "", limits: Mapping[str, int] = quotas.DEFAULTS
    ) -> Project:
        project = cls.new(project_id)
        project.record(pb.ProjectCreated(display_name=display_name, description=description, quotas=limits))
        return project

    def set_quotas(self, limits: Mapping[str, int]) -> None:
        """The resources not named keep their limits. Raises NotFound when deleted."""
        require_live(self).record(pb.ProjectQuotasSet(quotas=limits))

    def delete(self) -> None:
        """Refused by the log while the project has anything. Raises NotFound when deleted."""
        require_live(self).record(pb.ProjectDeleted(display_name=self.display_name))

    @applies(pb.ProjectCreated)
    def _created(self, event: pb.ProjectCreated) -> None:
        self.display_name = event.display_name

    @applies(pb.ProjectQuotasSet)
    def _quotas_set(self, event: pb.ProjectQuotasSet) -> None:
        """The log's counters hold them."""

    @applies(pb.ProjectDeleted)
    def _deleted(self, event: pb.ProjectDeleted) -> None:
        self.deleted = True


@constrains(pb.ProjectCreated)
def _begins(project_id: UUID, event: pb.ProjectCreated) -> Iterator[Constraint]:
    yield UniqueClaim(NAMES, event.display_name, str(project_id))
    yield from quotas.limits(str(project_id), event.quotas)


@constrains(pb.ProjectQuotasSet)
def _limited(project_id: UUID, event: pb.ProjectQuotasSet) -> Iterator[Constraint]:
    yield from quotas.limits(str(project_id), event.quotas)


@constrains(pb.ProjectDeleted)
def _ends(project_id: UUID, event: pb.ProjectDeleted) -> Iterator[Constraint]:
    yield UniqueRelease(NAMES, event.display_name, str(project_id))
    for resource in quotas.DEFAULTS:
        yield from references.gone(quotas.scope(resource), str(project_id))
