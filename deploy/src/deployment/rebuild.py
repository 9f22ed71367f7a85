"""`rebuild`: each service drops its read models and builds them again from the event log, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from core.errors import CirraError
from deployment.layout import Layout
from deployment.process import Program
from deployment.services import ServiceTable
from deployment.supervisor import is_locked


class RebuildFailed(CirraError):
    """A read model was not rebuilt; the service has said why."""

    reason = "REBUILD_FAILED"


async def rebuild_all(layout: Layout, table: ServiceTable, tell: Callable[[str], None]) -> None:
    """The services print their progress on our standard output. Raises RebuildFailed."""
    if not is_locked(layout):
        raise RebuildFailed("Cirra does not run", remedy="start it: make up")
    for program in table.rebuilders():
        tell(f"== {program.name}")
        await _rebuild(program)


async def _rebuild(program: Program) -> None:
    process = await asyncio.create_subprocess_exec(
        *program.argv, env=dict(program.environment), stdin=asyncio.subprocess.DEVNULL, cwd="/"
    )
    if code := await process.wait():
        raise RebuildFailed(f"{program.name} ended with {code}")
