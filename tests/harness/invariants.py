"""The checker of invariants, for a control plane of the harness."""

from __future__ import annotations

from collections.abc import AsyncIterator, Set
from contextlib import asynccontextmanager
from dataclasses import replace

import asyncpg

from api_gateway.views.projection import GatewayProjection
from conductor.fabric.projection import FabricProjection
from conductor.hosts.desired_state import DesiredStateProjection
from conductor.operations.unfinished import UnfinishedProjection, runner_lease
from core.bus import Bus, connect
from core.eventlog.log import EventLog
from core.projection.checkpoints import Checkpoints
from core.testing.invariants import PATIENCE_S, CellUnderCheck, Invariant, ReadModel, lasting_violations, violations
from core.testing.servers import Cell
from metadata.documents import DocumentsProjection
from tests.harness.control_plane import ControlPlane

READ_MODELS = (
    ("conductor", DesiredStateProjection),
    ("conductor", UnfinishedProjection),
    ("conductor", FabricProjection),
    ("gateway", GatewayProjection),
    ("metadata", DocumentsProjection),
)


async def cell_under_check(log: EventLog, bus: Bus) -> CellUnderCheck:
    """The bus's cell as the checker sees it: with the read models of those services that were ever started in it."""
    models = [ReadModel(f"{bus.cell}_{part}", projection()) for part, projection in READ_MODELS]
    kept = [model for model in models if await Checkpoints(model.schema, model.projection.name).load(log.pool)]
    return CellUnderCheck(log=log, bus=bus, read_models=kept, runner_lease=runner_lease)


async def require_sound(cell: CellUnderCheck, *, patience_s: float = PATIENCE_S) -> None:
    """Fails with every invariant that does not hold, nor comes to hold soon."""
    found = await lasting_violations(cell, patience_s=patience_s)
    if found:
        raise AssertionError("\n".join(["invariants are broken:", *map(str, found)]))


@asynccontextmanager
async def under_check(plane: ControlPlane) -> AsyncIterator[CellUnderCheck]:
    """The plane as the checker sees it."""
    log, cell = plane.repository.log, plane.cell
    bus = await connect(cell.nats_url, cell=cell.name, name="invariants", credentials=cell.credentials)
    try:
        yield replace(await cell_under_check(log, bus), hosts=plane.hosts, blobs=plane.uploaded)
    finally:
        await bus.close()


async def check_invariants(plane: ControlPlane) -> None:
    """Fails with every invariant that does not hold, nor comes to hold soon."""
    async with under_check(plane) as cell:
        await require_sound(cell)


async def check_at_rest(cell: Cell, invariants: Set[Invariant], broken: Set[Invariant]) -> None:
    """Of a cell whose services have stopped: fails unless exactly those invariants are broken which should be.

    Nothing if there never was a log. *invariants*: those that its log can have; *broken*: what the test breaks.
    """
    if not await _has_log(cell):
        assert not broken, f"there is no log, where the test should have broken {broken}"
        return
    log = await EventLog.open(cell.dsn, schema=f"{cell.name}_log", pool_size=2)
    bus = await connect(cell.nats_url, cell=cell.name, name="invariants", credentials=cell.credentials)
    try:
        whole = await cell_under_check(log, bus)
        found = await violations(replace(whole, invariants=frozenset(invariants)), resting=True)
    finally:
        await bus.close()
        await log.close()
    if {violation.invariant for violation in found} != broken:
        should = f"exactly {sorted(each.name for each in broken)}" if broken else "none"
        raise AssertionError("\n".join([f"of all invariants {should} should be broken:", *map(str, found)]))


async def _has_log(cell: Cell) -> bool:
    connection = await asyncpg.connect(cell.dsn)
    try:
        return bool(await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", f'"{cell.name}_log".head'))
    finally:
        await connection.close()
