"""What an instance takes of its project's quota, and what it keeps from going, as long as it is there."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from cirra.compute.v1 import compute_pb2 as public
from cirra.compute.v1 import events_pb2 as pb
from conductor import quotas, references
from core.aggregate import constrains
from core.eventlog.types import Constraint


def _usage(project_id: str, image_id: str, flavor: public.FlavorSummary, sign: int) -> Iterable[Constraint]:
    yield quotas.usage("instances", project_id, sign)
    yield quotas.usage("vcpus", project_id, sign * flavor.vcpus)
    yield quotas.usage("memory_mib", project_id, sign * flavor.memory_mib)
    use = references.used if sign > 0 else references.given_up
    yield use(references.IMAGE_USERS, image_id)


@constrains(pb.InstanceCreated)
def _taken(instance_id: UUID, event: pb.InstanceCreated) -> Iterable[Constraint]:
    return _usage(event.project_id, event.image_id, event.flavor, 1)


@constrains(pb.InstanceDeleted)
def _given_back(instance_id: UUID, event: pb.InstanceDeleted) -> Iterable[Constraint]:
    return _usage(event.project_id, event.image_id, event.flavor, -1)
