"""The checker of invariants: what must be true of a cell whatever has happened to it (DESIGN §2-§4, §8).

    found = await lasting_violations(CellUnderCheck(log=log, bus=bus, read_models=…, runner_lease=…))
    assert not found, "\\n".join(map(str, found))

It looks from outside: at the log, its rows, the stream and the read models. It asks no service and imports none, so it
finds also what a service believes of itself. Only the projections' own `apply` is used, for the rebuild.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from core.bus import Bus
from core.eventlog.log import EventLog
from core.testing.invariants_holdings import holding_violations
from core.testing.invariants_log import all_events, constraint_differences, gaps, stream_differences
from core.testing.invariants_models import ReadModel, abandoned_sagas, rebuild_differences
from core.testing.invariants_violation import Invariant, Violation

__all__ = ["CellUnderCheck", "Invariant", "ReadModel", "Violation", "lasting_violations", "violations"]

PATIENCE_S = 10.0
_LOOK_AGAIN_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class CellUnderCheck:
    """`runner_lease`: the name of the lease that a saga's runner holds while it lives."""

    log: EventLog
    bus: Bus
    read_models: Sequence[ReadModel]
    runner_lease: Callable[[str], str]


async def violations(cell: CellUnderCheck) -> list[Violation]:
    """What is not as it must be right now. In the middle of something, some of it may be about to be mended."""
    head = await cell.log.head()
    events = await all_events(cell.log, head.position)
    found = list(gaps(events, head))
    if found:  # the other checks count on it
        return found
    found += await constraint_differences(cell.log)
    found += await stream_differences(cell.bus, events)
    for model in cell.read_models:
        found += await rebuild_differences(cell.log, model, events)
    found += await abandoned_sagas(cell.log, events, cell.runner_lease)
    found += await holding_violations(cell.log, events)
    return found


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
