"""Sagas: changes that span services, as aggregates whose log is their timeline (DESIGN §4)."""

from __future__ import annotations

from core.saga.definition import Saga, Step, StepContext, StepError
from core.saga.engine import SagaEngine
from core.saga.state import SagaRun

__all__ = ["Saga", "SagaEngine", "SagaRun", "Step", "StepContext", "StepError"]
