"""AS OF: what a resource was at an earlier time or position, folded from the log by the reducers of the views."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from google.protobuf.message import Message

from api_gateway.api.call import Call
from api_gateway.api.present import presented, shown_instance
from api_gateway.views.fold import Fold
from api_gateway.views.instance import INSTANCE
from api_gateway.views.network import PORT
from api_gateway.views.placement import HOST
from api_gateway.views.registry import VIEW_OF_KIND
from api_gateway.views.server_group import SERVER_GROUP
from api_gateway.views.view import Row
from cirra.compute.v1 import compute_pb2 as pb
from core.errors import FieldViolation, InvalidArgument, NotFound

# What they have is told by the events of claims and instances: they can't be folded from their own.
_MADE_OF_OTHERS = frozenset({HOST.kind, SERVER_GROUP.kind})


async def instance_as_of(call: Call, row: Row[pb.Instance], moment: datetime) -> pb.Instance:
    """The instance with its addresses as they were. Raises NotFound before its creation and after its deletion."""
    position = await call.parts.log.position_at(moment)
    return await _instance(call, row.uid, position, moment.isoformat())


async def resource_as_of(call: Call, uid: str, position: int) -> Message:
    """A resource of any kind that the caller may see events of.

    Raises NotFound before its creation and after its deletion, InvalidArgument for kinds that have no past.
    """
    when = f"position {position}"
    for row in await call.parts.store.of_any_kind([uid]):
        view = VIEW_OF_KIND[row.kind]
        if row.kind in _MADE_OF_OTHERS:
            raise InvalidArgument(
                FieldViolation("resource", f"no earlier state is kept of a {view.title}: list its events instead")
            )
        if row.kind == INSTANCE.kind:
            return await _instance(call, uid, position, when)
        # A subnet's events are its network's.
        past = await _folded(call, Fold(), view, uid, position, when, view.columns(row.resource).parent)
        [resource] = await presented(call.reader, view, [past])
        return resource
    raise NotFound(f"no resource {uid!r}", remedy="give a resource name or a uid")


async def _instance(call: Call, uid: str, position: int, when: str) -> pb.Instance:
    fold = Fold()
    past = await _folded(call, fold, INSTANCE, uid, position, when)
    for nic in past.resource.nics:
        if nic.port:
            await _fold_aggregate(call, fold, nic.port, position)
    return shown_instance(call.reader, past, {port.uid: port for port in fold.rows(PORT)})


async def _folded(call: Call, fold: Fold, view: Any, uid: str, position: int, when: str, parent: str = "") -> Row[Any]:
    for aggregate in filter(None, (parent, uid)):
        await _fold_aggregate(call, fold, aggregate, position)
    past = fold.get(view, uid)
    if past is None or past.deleted:
        raise NotFound(f"there was no {view.title} {uid} at {when}", remedy="give another time")
    call.written = max(call.written, position)
    return past


async def _fold_aggregate(call: Call, fold: Fold, uid: str, up_to_position: int) -> None:
    fold.apply_all(await call.parts.log.read_aggregate(UUID(uid), up_to_position=up_to_position))
