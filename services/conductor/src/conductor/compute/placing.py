"""Where an instance is asked to be: its zone, the one host that an administrator names, its server group."""

from __future__ import annotations

from dataclasses import dataclass

from cirra.compute.v1 import compute_pb2 as public
from cirra.identity.v1.identity_pb2 import Principal
from conductor.access import is_admin
from conductor.compute.server_group import ServerGroup
from conductor.fields import Fields, host_name, uid
from conductor.requests import load_live
from core.errors import NotFound, PermissionDenied
from core.repository import Repository

HINTS = ("group",)


@dataclass(frozen=True, slots=True)
class Placing:
    """Empty, or None, where nothing is asked."""

    zone: str = ""
    host: str = ""
    group: ServerGroup | None = None


async def placing_of(
    repository: Repository,
    request: public.CreateInstanceRequest | public.CreateInstancesRequest,
    principal: Principal,
    project_id: str,
) -> Placing:
    """Raises InvalidArgument, NotFound, PermissionDenied."""
    _check_hints(request)
    zone, colon, host = request.instance.availability_zone.partition(":")
    if colon:
        if not is_admin(principal):
            raise PermissionDenied(
                "instance.availability_zone: only an administrator may name a host", remedy="give a zone alone"
            )
        host = host_name("instance.availability_zone", host)
    group = None
    if "group" in request.scheduler_hints:
        group = await load_live(
            repository, ServerGroup, uid("scheduler_hints[group]", request.scheduler_hints["group"])
        )
        if group.project_id != project_id:
            raise NotFound(f"no server group {group.id}", remedy="check the name: a group is its own project's")
    return Placing(zone, host, group)


def _check_hints(request: public.CreateInstanceRequest | public.CreateInstancesRequest) -> None:
    fields = Fields()
    for hint in sorted(request.scheduler_hints):
        if hint not in HINTS:
            fields.refuse(f"scheduler_hints[{hint}]", f"it is unknown: give {', '.join(HINTS)}")
    fields.check()
