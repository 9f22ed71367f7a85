from __future__ import annotations

import pytest

from core.testing.invariants import Invariant


@pytest.fixture
def invariants() -> frozenset[Invariant]:
    """The logs of these tests hold what a host may see, made up, without what it would imply."""
    return frozenset({Invariant.LOG})
