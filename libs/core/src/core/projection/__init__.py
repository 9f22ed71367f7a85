"""Read models: events in the order of their positions, rows and checkpoint in one transaction."""

from __future__ import annotations

from core.projection.checkpoints import ProjectionState
from core.projection.errors import HistoryChanged, ProjectionHalted
from core.projection.moves import Moves
from core.projection.projection import Projection
from core.projection.projector import Progress, Projector
from core.projection.statements import Statements
from core.projection.stream import EventStream
from core.projection.tail import EventTail

__all__ = [
    "EventStream",
    "EventTail",
    "HistoryChanged",
    "Moves",
    "Progress",
    "Projection",
    "ProjectionHalted",
    "ProjectionState",
    "Projector",
    "Statements",
]
