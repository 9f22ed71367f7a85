"""A bus of the test's own cell; and a server of the test's own, for tests that stop, kill or pause it."""

from __future__ import annotations

import pytest

from core.testing.invariants import Invariant


@pytest.fixture
def invariants() -> frozenset[Invariant]:
    """The logs of these tests hold made-up events, which imply nothing."""
    return frozenset({Invariant.LOG, Invariant.STREAM})
