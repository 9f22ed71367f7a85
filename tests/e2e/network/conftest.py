"""Three hosts (tests.testbed)."""

from __future__ import annotations

from tests.testbed.fixtures import cloud, tenant, testbed

__all__ = ["cloud", "tenant", "testbed"]
