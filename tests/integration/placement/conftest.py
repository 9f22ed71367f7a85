from __future__ import annotations

import pytest

from core.testing.invariants import Invariant


@pytest.fixture
def invariants() -> frozenset[Invariant]:
    """These tests claim for instances that nobody has created."""
    return frozenset(Invariant) - {Invariant.CLAIM}
