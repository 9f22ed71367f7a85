"""The checker of invariants: what must be true of a cell whatever has happened to it (DESIGN §2-§4, §8).

    found = await lasting_violations(CellUnderCheck(log=log, bus=bus, read_models=…, runner_lease=…))
    assert not found, "\\n".join(map(str, found))

It looks from outside: at the log, its rows, the stream, the read models, hosts and files. It asks no service and
imports none, so it finds also what a service believes of itself. Only the projections' own `apply` is used, for the
rebuild.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.bus import Bus
from core.eventlog.log import EventLog
from core.testing.invariants_holdings import holding_violations
from core.testing.invariants_hosts import HostUnderCheck, file_violations, host_violations
from core.testing.invariants_log import all_events, constraint_differences, gaps, stream_differences
from core.testing.invariants_models import ReadModel, abandoned_sagas, rebuild_differences
from core.testing.invariants_secrets import surviving_keys
from core.testing.invariants_violation import Invariant, Violation

__all__ = [
    "CellUnderCheck",
    "HostUnderCheck",
    "Invariant",
    "ReadModel",
    "Violation",
    "lasting_violations",
    "violations",
]

# Only what does not come to hold takes so long, on however busy a machine.
PATIENCE_S = 120.0
_LOOK_AGAIN_S = 0.05
HOLDINGS = frozenset({Invariant.CLAIM, Invariant.PORT, Invariant.USAGE})


@dataclass(frozen=True, slots=True, kw_only=True)
class CellUnderCheck:
    """`runner_lease`: the name of the lease that a saga's runner holds while it lives. `hosts`: those whose contents
    can be looked at. `blobs`: the folder of images' files, where images are uploaded.

    `invariants`: those that can be true of it: a log of made-up events implies no constraints.
    """

    log: EventLog
    bus: Bus
    read_models: Sequence[ReadModel]
    runner_lease: Callable[[str], str]
    hosts: Sequence[HostUnderCheck] = ()
    blobs: Path | None = None
    invariants: frozenset[Invariant] = frozenset(Invariant)


async def violations(cell: CellUnderCheck, *, resting: bool = False) -> list[Violation]:
    """What is not as it must be right now. In the middle of something, some of it may be about to be mended.

    *resting*: the cell's services have stopped. What they had still to do is no violation then, what they did wrong is.
    """
    head = await cell.log.head()
    events = await all_events(cell.log, head.position)
    found = list(gaps(events, head))
    if found:  # the other checks count on it
        return found
    asked = cell.invariants
    if Invariant.CONSTRAINTS in asked:
        found += await constraint_differences(cell.log)
    if Invariant.STREAM in asked:
        found += await stream_differences(cell.bus, events, resting=resting)
    for model in cell.read_models:
        found += await rebuild_differences(cell.log, model, events, resting=resting)
    if Invariant.SAGA in asked and not resting:
        found += await abandoned_sagas(cell.log, events, cell.runner_lease)
    if asked & HOLDINGS:
        found += await holding_violations(cell.log, events)
    if Invariant.SECRET in asked and not resting:
        found += await surviving_keys(cell.log, events)
    if not resting:
        for host in cell.hosts:
            found += await host_violations(host, events)
    if cell.blobs is not None:
        found += await asyncio.to_thread(file_violations, cell.blobs, events)
    return [violation for violation in found if violation.invariant in asked]


async def lasting_violations(cell: CellUnderCheck, *, patience_s: float = PATIENCE_S) -> list[Violation]:
    """What is still wrong after `patience_s` seconds, in which relay, projectors and runners may catch up."""
    found = await violations(cell)
    try:
        async with asyncio.timeout(patience_s):
            while found:
                await asyncio.sleep(_LOOK_AGAIN_S)
                found = await violations(cell)
    except TimeoutError:
        return found
    return found
