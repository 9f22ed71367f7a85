"""The log and the bus of the test itself are of those whom the victims must not hold up."""

from __future__ import annotations

from tests.integration.bus.conftest import invariants

__all__ = ["invariants"]
