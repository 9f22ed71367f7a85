"""AS OF: what a resource was at an earlier time, folded from the log by the reducers of the views."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from api_gateway.api.call import Call
from api_gateway.api.present import shown_instance
from api_gateway.views.fold import Fold
from api_gateway.views.instance import INSTANCE
from api_gateway.views.network import PORT
from api_gateway.views.view import Row
from cirra.compute.v1 import compute_pb2 as pb
from core.errors import NotFound


async def instance_as_of(call: Call, row: Row[pb.Instance], moment: datetime) -> pb.Instance:
    """The instance with its addresses as they were. Raises NotFound before its creation and after its deletion."""
    position = await call.parts.log.position_at(moment)
    fold = Fold()
    await _fold_aggregate(call, fold, row.uid, position)
    past = fold.get(INSTANCE, row.uid)
    if past is None or past.deleted:
        raise NotFound(f"there was no instance {row.uid} at {moment.isoformat()}", remedy="give another time")
    for nic in past.resource.nics:
        if nic.port:
            await _fold_aggregate(call, fold, nic.port, position)
    call.written = max(call.written, position)
    return shown_instance(call.reader, past, {port.uid: port for port in fold.rows(PORT)})


async def _fold_aggregate(call: Call, fold: Fold, uid: str, up_to_position: int) -> None:
    fold.apply_all(await call.parts.log.read_aggregate(UUID(uid), up_to_position=up_to_position))
