"""Says of each host that it is observe-only, once the log has begun a new epoch: for people and read models to see.

The scheduler does not wait for that: it takes it from the new epoch itself (`HostTable.observing`).
"""

from __future__ import annotations

import asyncio

import numpy as np
import structlog

from core.context import acting
from core.errors import CirraError
from core.ids import host_aggregate_id
from core.repository import Repository
from placement.hosts.host import Host
from placement.hosts.live_view import LiveView

log = structlog.get_logger(__name__)

_LOOK_EVERY_S = 1.0


async def mark_observe_only(repository: Repository, view: LiveView) -> None:
    """For ever. Every replica does it; what another has said is not said again."""
    marked = 0
    while True:
        epoch = view.table.epoch
        if epoch > marked:
            try:
                await _mark(repository, view, epoch)
                marked = epoch
            except CirraError as error:
                log.warning("hosts not marked as observe-only; trying again", epoch=epoch, error=str(error))
        await asyncio.sleep(_LOOK_EVERY_S)


async def _mark(repository: Repository, view: LiveView, epoch: int) -> None:
    with acting(actor="system/placement"):
        for row in np.flatnonzero(view.table.observing):
            host = view.table.names[int(row)]
            await repository.change(Host, host_aggregate_id(host), lambda it: it.observe_only(epoch))
