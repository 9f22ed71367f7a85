"""Sagas: changes that span services, as aggregates whose log is their timeline (DESIGN §4)."""

from __future__ import annotations

from core.saga.deadline import standing_still
from core.saga.definition import Abandoned, Saga, Step, StepContext, StepError, Together, taken_at_start
from core.saga.engine import Orphan, SagaEngine
from core.saga.interventions import Interventions
from core.saga.state import SagaRun

__all__ = [
    "Abandoned",
    "Interventions",
    "Orphan",
    "Saga",
    "SagaEngine",
    "SagaRun",
    "Step",
    "StepContext",
    "StepError",
    "Together",
    "standing_still",
    "taken_at_start",
]
