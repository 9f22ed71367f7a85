"""An epoch of the log as an aggregate: it has begun, and why.

`EventLog.raise_epoch` appends its one event. The number is in every event, every command and every report since.
"""

from __future__ import annotations

from cirra.operations.v1.events_pb2 import EpochRaised
from core.aggregate import Aggregate, applies


class Epoch(Aggregate, kind="epoch"):
    """Its id is `core.ids.epoch_aggregate_id(number)`. The first epoch has none: nothing was lost before it."""

    number: int = 0
    cause: str = ""

    @applies(EpochRaised)
    def _raised(self, event: EpochRaised) -> None:
        self.number, self.cause = event.epoch, event.cause
