"""`rebuild`: each service drops its read models and builds them again from the event log, all at the same time.

`restored`: before that, a new epoch of the log begins, and its constraint rows are computed anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from core.errors import CirraError
from deployment.config import Config
from deployment.layout import Layout
from deployment.lock import is_locked
from deployment.process import Program
from deployment.servers import servers
from deployment.services import ServiceTable


class RebuildFailed(CirraError):
    """A read model was not rebuilt; the service has said why."""

    reason = "REBUILD_FAILED"


async def rebuild_all(layout: Layout, table: ServiceTable, tell: Callable[[str], None]) -> None:
    """The services print their progress on our standard output. Raises RebuildFailed."""
    if not is_locked(layout):
        raise RebuildFailed("Cirra does not run", remedy="start it: make up")
    rebuilders = table.rebuilders()
    tell(f"== {', '.join(program.name for program in rebuilders)}")
    ended = await asyncio.gather(*map(_run, rebuilders), return_exceptions=True)
    for failure in ended:
        if failure is not None:
            raise failure  # of several, the first: each service has said why


async def after_restore(
    layout: Layout, config: Config, table: ServiceTable, above: int, tell: Callable[[str], None]
) -> None:
    """As `rebuild_all`, after a restore that nothing else can show. *above*: an epoch that hosts have acted in."""
    if not is_locked(layout):
        raise RebuildFailed("Cirra does not run", remedy="start it: make up")
    tell("== new epoch")
    await _run(table.epoch_raiser(above))
    # Imports every aggregate there is: nobody else shall wait for that.
    from deployment.constraints import mend_constraints

    tell("== constraint rows")
    mended = await mend_constraints(servers(layout, config).postgres_dsn, f"{config.cell}_log", tell)
    tell(f"{mended} mended")
    await rebuild_all(layout, table, tell)


async def _run(program: Program) -> None:
    process = await asyncio.create_subprocess_exec(
        *program.argv, env=dict(program.environment), stdin=asyncio.subprocess.DEVNULL, cwd="/"
    )
    if code := await process.wait():
        raise RebuildFailed(f"{program.name} ended with {code}")
