"""The constraint rows of the log, computed anew from its events: unique names and addresses, quotas, capacity."""

from __future__ import annotations

from collections.abc import Callable

# Imported for what they register: the aggregates of all events, and what constrains them.
import conductor.bootstrap  # noqa: F401
import placement.bootstrap  # noqa: F401
from core.eventlog.log import EventLog
from core.eventlog.rebuild import recompute_constraints
from core.repository import RecordedConstraints


async def mend_constraints(dsn: str, schema: str, tell: Callable[[str], None]) -> int:
    """Rows that are not what the events say are corrected and told; how many there were."""
    log = await EventLog.open(dsn, schema=schema)
    try:
        differences = await recompute_constraints(log, RecordedConstraints(), repair=True)
    finally:
        await log.close()
    for difference in differences:
        tell(f"mended {difference.scope} {difference.key}: {difference.found} is {difference.right} by the events")
    return len(differences)
