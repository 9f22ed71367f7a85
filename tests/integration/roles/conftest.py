"""The log and the bus of the test itself: of those whom the victims must not hold up."""

from __future__ import annotations

from tests.integration.projection.conftest import bus, invariants, leases, log

__all__ = ["bus", "invariants", "leases", "log"]
