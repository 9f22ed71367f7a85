"""The one detector: whose word on hosts counts.

A lease alone does not stop a detector that is paused between its look at the lease and its append. So whoever takes
over begins a term, in the log, and each transition that it declares holds the unique key of its term: an append of an
earlier one is refused in its own transaction, however long it was under way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from cirra.placement.v1 import events_pb2 as pb
from core.aggregate import Aggregate, applies, constrains
from core.eventlog.types import Constraint, UniqueClaim, UniqueRelease

SCOPE = "detector"
KEY = "term"
DETECTOR_ID = UUID("8f2c1a52-6f0e-5d44-9d7e-0d1f6e7c3b11")


class DetectorTerm(Aggregate, kind="detector"):
    """`term`: counts takeovers. `replica`: whose it is."""

    term: int = 0
    replica: str = ""

    @property
    def resource_name(self) -> str:
        return "detector"

    def take_over(self, replica: str) -> None:
        self.record(pb.DetectorTookOver(replica=replica, term=self.term + 1))

    @applies(pb.DetectorTookOver)
    def _took_over(self, event: pb.DetectorTookOver) -> None:
        self.term, self.replica = event.term, event.replica


@constrains(pb.DetectorTookOver)
def _one_term(detector_id: UUID, event: pb.DetectorTookOver) -> Iterator[Constraint]:
    yield UniqueRelease(SCOPE, KEY, str(event.term - 1))
    yield UniqueClaim(SCOPE, KEY, str(event.term))


def of_term(host_id: UUID, event: Any) -> Iterator[Constraint]:
    """Of a transition that a detector declares: it counts only in its `term`; one without was not a detector's."""
    if event.term:
        yield UniqueClaim(SCOPE, KEY, str(event.term))
